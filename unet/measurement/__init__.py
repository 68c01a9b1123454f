"""What are the objects: how large, of what shape, in contact with which, and what lies inside them?"""
