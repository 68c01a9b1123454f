"""How are the stores of a volume written for other programs?"""
