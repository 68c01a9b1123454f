"""How are the weights learnt?"""
