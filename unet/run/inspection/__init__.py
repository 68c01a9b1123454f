"""What would be read of given image files, and which configuration suits them and this machine?"""
