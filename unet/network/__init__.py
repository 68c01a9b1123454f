"""What is the U-Net, and how does a volume of any size go through it?"""
