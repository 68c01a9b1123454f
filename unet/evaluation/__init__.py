"""How good are the objects?"""
