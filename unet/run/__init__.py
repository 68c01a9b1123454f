"""What does a whole run cost, what did it do, and can it be repeated?"""
