"""The grid of blocks that covers a volume."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from math import ceil, prod

from unet.geometry.box import Box, Index


@dataclass(frozen=True)
class Grid:
    """The blocks that cover a volume, in scan order (the index of the last axis changes fastest).

    >>> grid = Grid(shape=(3, 10, 10), block=(2, 4, 10))
    >>> grid.counts, len(grid)
    ((2, 3, 1), 6)
    >>> print(grid.box((1, 2, 0)))
    2:3,8:10,0:10
    """

    shape: Index
    block: Index

    @property
    def counts(self) -> Index:
        """Number of blocks along each axis."""
        return tuple(ceil(n / b) for n, b in zip(self.shape, self.block, strict=True))

    def __len__(self) -> int:
        return prod(self.counts)

    def box(self, index: Index) -> Box:
        """Return the voxels of one block, clipped at the volume's faces."""
        start = tuple(i * b for i, b in zip(index, self.block, strict=True))
        return Box(start, tuple(a + b for a, b in zip(start, self.block, strict=True))).clipped(self.shape)

    def index_of(self, number: int) -> Index:
        """Return the index of a block from its number in scan order.

        >>> Grid(shape=(3, 10, 10), block=(2, 4, 10)).index_of(5)
        (1, 2, 0)
        """
        index: list[int] = []
        for n in reversed(self.counts):
            number, i = divmod(number, n)
            index.insert(0, i)
        return tuple(index)

    def touched(self, box: Box) -> "list[Box]":
        """Return the blocks that share voxels with a box, in scan order.

        >>> [str(block) for block in Grid((1, 10, 10), (1, 4, 10)).touched(Box((0, 3, 0), (1, 5, 1)))]
        ['0:1,0:4,0:10', '0:1,4:8,0:10']
        """
        return [self.box(index) for index in self.touched_indices(box)]

    def touched_indices(self, box: Box) -> Iterator[Index]:
        """Yield the indices of the blocks that share voxels with a box, in scan order."""
        spans = (range(lo // b, -(-hi // b)) for lo, hi, b in zip(box.start, box.stop, self.block, strict=True))
        return product(*spans)

    def indices(self) -> Iterator[Index]:
        """Yield the index of every block in scan order."""
        return product(*(range(n) for n in self.counts))

    def layer(self, z: int) -> Iterator[Index]:
        """Yield the indices of one layer of blocks: all blocks with the index `z` along the first axis.

        >>> list(Grid(shape=(3, 10, 10), block=(2, 4, 10)).layer(1))
        [(1, 0, 0), (1, 1, 0), (1, 2, 0)]
        """
        return product((z,), *(range(n) for n in self.counts[1:]))

    def boxes(self) -> list[Box]:
        """Return the voxels of every block in scan order."""
        return [self.box(index) for index in self.indices()]

    def voxels_of_largest(self, number: int = 1, halo: Index = (0, 0, 0)) -> int:
        """Return the voxels of the largest blocks together, each with its halo inside the volume.

        Along an axis all blocks but the last have one length. So there are 8 kinds of blocks at most.

        >>> grid = Grid(shape=(3, 10, 10), block=(2, 4, 10))
        >>> grid.voxels_of_largest(), grid.voxels_of_largest(3), grid.voxels_of_largest(halo=(1, 1, 0))
        (80, 200, 180)
        """
        whole_and_last = (
            [(min(b + 2 * h, n), n // b), (min(n % b + h, n), int(n % b > 0))]
            for n, b, h in zip(self.shape, self.block, halo, strict=True)
        )
        kinds = [tuple(map(prod, zip(*kind, strict=True))) for kind in product(*whole_and_last)]
        voxels = 0
        for size, blocks in sorted(kinds, reverse=True):
            voxels += size * min(blocks, number)
            number -= min(blocks, number)
        return voxels
