"""Divide a volume into the parts that are merged, by the configuration and the volume's shape."""

from math import ceil

from unet.config.root import Config
from unet.geometry.part_tree import TreePart, tree_of_parts
from unet.volumes.layout import VolumeLayout

VOXELS_PER_FRAGMENT = {"components": 2000, "section": 400, "volume": 2100}
"""Voxels per component (vnc: 2,800), and per basin that no block cuts, by connectivity (ISBI 2012: 450; fib25)."""
FACE_VOXELS_PER_FRAGMENT = 60
"""Voxels of the faces of blocks per 3-D basin that these cut or make (fib25, blocks of 16, 32, 64 sections)."""
PART_FRAGMENTS = 1_000_000
"""Fragments of a part by default: some 6 million edges, about 1 GB while they are solved."""


def voxels_per_fragment(config: Config) -> int:
    """Return the measured voxels per fragment with the configured method."""
    kind = "components" if config.segment.method == "components" else config.segment.connectivity
    whole, faces = VOXELS_PER_FRAGMENT[kind], sum(1 / edge for edge in config.storage.block)
    return round(1 / (1 / whole + faces / FACE_VOXELS_PER_FRAGMENT)) if kind == "volume" else whole


def layers_per_part(config: Config, layout: VolumeLayout) -> int:
    """Return the layers of blocks whose fragments one job merges."""
    asked = config.segment.merge_voxels
    voxels = PART_FRAGMENTS * voxels_per_fragment(config) if asked == "auto" else asked
    return max(1, voxels // (layout.section_pixels * layout.block[0]))


def part_voxels(config: Config, layout: VolumeLayout) -> int:
    """Return the most voxels of a part whose fragments one job merges."""
    return min(layers_per_part(config, layout) * layout.block[0], layout.shape[0]) * layout.section_pixels


def merge_tree(config: Config, layout: VolumeLayout) -> TreePart:
    """Return the parts in which a volume is merged; the last one is the whole volume."""
    return tree_of_parts(ceil(layout.shape[0] / layout.block[0]), layers_per_part(config, layout))
