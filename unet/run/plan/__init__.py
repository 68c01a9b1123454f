"""What will a run cost: jobs, time, memory, disk?"""
