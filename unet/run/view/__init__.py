"""How is a run looked at in neuroglancer?"""
