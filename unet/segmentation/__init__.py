"""How do probabilities become objects?"""
