"""How is a run shown to people?"""
