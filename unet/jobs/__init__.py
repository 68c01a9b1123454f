"""How does one job run, report, resume, and share devices with others?"""
