"""How is each file format read, box by box?"""
