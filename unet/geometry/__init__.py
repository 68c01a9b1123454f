"""Where do voxels, blocks, shards and tiles lie?"""
