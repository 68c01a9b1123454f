"""Where do voxels, blocks, block ranges and tiles lie?"""
