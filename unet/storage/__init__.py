"""How are stores and small files written so that each is there whole, or not at all?"""
