"""What does a volume consist of: which files of the user, which stores, which intensities?"""
