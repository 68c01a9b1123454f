"""Objects that are the fragments that touch, merged a layer of blocks at a time: memory of a layer, not of the volume.

What lies within a layer, away from the faces to the layers around it, is finished there: it is **closed**. The rest is
**open**; what is open of all layers is joined in one union. Ids go by the first voxel in scan order, and a
layer is a run of that order: so the objects whose first voxel lies in it have the ids that follow those of the layer
before.

```
 layer 0   a a . b b . c      a: closed          first voxels in layer 0: a, b, c -> 1, 2, 3
           . . . b . . c      b, c: open
----------------------------  b, c and d are one: b
 layer 1   . . . d d d d      d: open            first voxel in layer 1: e -> 3 (c became 2 with b)
           e e . . . . .      e: closed
```

The tables are read twice: once to find what is open and how many objects there are, once to number. The answer is that
of `merge_table.number_objects` for one union over all fragments. (Fragments without a voxel in their block, which a
watershed lists beyond its faces, may have id 0.)
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet.fragments import BlockTable, Fragments, face_pairs, join_blocks, union
from unet.geometry import Box, Grid
from unet.merge_table import Numbered, id_dtype

Runs = NDArray[np.uint32]
"""See `unet.fragments.runs`."""


@dataclass(frozen=True)
class LayeredMerge:
    """What touching fragments become: how many objects there are, and, layer by layer, which.

    Attributes
    ----------
    grid : the blocks of the volume
    table_of : reads the table of a block
    first_id, minimum_size : see `unet.merge_table.number_objects`
    offsets : (blocks + 1,) int64, the first fragment of each block
    unions : number of unions of touching fragments
    objects : number of those that are kept
    open : the open unions of each layer, and which of them are one
    """

    grid: Grid
    table_of: Callable[[Box], BlockTable]
    first_id: int
    minimum_size: int
    offsets: NDArray[np.int64]
    unions: int
    objects: int
    open: Fragments

    @classmethod
    def read(
        cls, grid: Grid, table_of: Callable[[Box], BlockTable], first_id: int = 1, minimum_size: int = 0
    ) -> "LayeredMerge":
        """Read every table once; parameters as of the class."""
        sizes, columns, starts, unions, objects = [np.zeros(1, np.int64)], [], [0, 0], 0, 0
        pairs, upper, value = [np.empty((0, 2), np.int64)], list[Runs](), np.empty(0, np.uint8)
        for number in range(grid.counts[0]):
            layer = _Layer.read(grid, table_of, number)
            opened = _columns(layer.parts, layer.open > 0)
            for high, low in zip(upper, layer.lower, strict=True):
                pairs.append(face_pairs(high, low, value, opened[2]) + np.array(starts[-2:]) - 1)
            upper, value = layer.upper, opened[2]
            sizes.append(np.diff(layer.fragments.offsets))
            columns.append(opened)
            starts.append(starts[-1] + len(value))
            unions += layer.parts.parts - len(value)
            objects += int(layer.closed(minimum_size).sum())
        part = union(starts[-1], np.concatenate(pairs))
        first, size, value, rim = map(np.concatenate, zip(*columns, strict=True))
        joined = Fragments(np.array(starts[1:]), first, size, value, rim, part)
        unions, objects = unions + joined.parts, objects + int(joined.united().kept(minimum_size).sum())
        return cls(grid, table_of, first_id, minimum_size, np.cumsum(np.concatenate(sizes)), unions, objects, joined)

    def numbered(self) -> Iterator[Numbered]:
        """The fragments of each layer, and the objects that have their first voxel in it; every table is read again."""
        whole, voxels = self.open.united(), prod(self.grid.shape[1:])
        id_of_open = np.zeros(whole.parts, id_dtype(self.first_id, self.objects))
        kept, layer_of_first = whole.kept(self.minimum_size), whole.first // (voxels * self.grid.block[0])
        next_id = self.first_id
        for number in range(self.grid.counts[0]):
            layer = _Layer.read(self.grid, self.table_of, number)
            closed = np.flatnonzero(layer.closed(self.minimum_size))
            begun = np.flatnonzero(kept & (layer_of_first == number))
            both = zip(_columns(layer.parts, closed), _columns(whole, begun), strict=True)
            first, size, value, _ = map(np.concatenate, both)
            order = np.argsort(first)
            ids = np.empty(len(order), id_of_open.dtype)
            ids[order] = np.arange(1, len(order) + 1, dtype=ids.dtype) + ids.dtype.type(next_id - 1)
            next_id += len(order)
            id_of_open[begun] = ids[len(closed) :]
            id_of_part = np.zeros(layer.parts.parts, ids.dtype)
            id_of_part[closed] = ids[: len(closed)]
            own = slice(*self.open.offsets[number : number + 2])
            id_of_part[layer.open > 0] = id_of_open[self.open.part[own]]
            yield Numbered(id_of_part[layer.fragments.part], first[order], size[order], value[order])


@dataclass(frozen=True)
class _Layer:
    """A layer of blocks, joined.

    Attributes
    ----------
    fragments : of its blocks
    parts : their unions, as fragments
    open : (parts,) uint32, 1, 2, ... for the unions that lie at a face to another layer, 0 for the others
    lower, upper : the faces of its blocks to the layers around it, as runs of these numbers
    """

    fragments: Fragments
    parts: Fragments
    open: NDArray[np.uint32]
    lower: list[Runs]
    upper: list[Runs]

    def closed(self, minimum_size: int) -> NDArray[np.bool_]:
        """(parts,) which are objects that end in this layer."""
        return self.parts.kept(minimum_size) & (self.open == 0)

    @classmethod
    def read(cls, grid: Grid, table_of: Callable[[Box], BlockTable], number: int) -> "_Layer":
        """Read the tables of a layer, each once."""
        faces: list[tuple[Runs, Runs]] = []

        def tables() -> Iterator[BlockTable]:
            for index in grid.layer(number):
                table = table_of(grid.box(index))
                faces.extend([table.faces[0]] if 0 in table.faces else [])
                yield table

        fragments = join_blocks(grid, tables(), number)
        of_block = [fragments.part[start:stop] for start, stop in pairwise(fragments.offsets)]
        lower = [low for low, _ in faces] if number > 0 else []
        upper = [high for _, high in faces] if number + 1 < grid.counts[0] else []
        opened = np.zeros(fragments.parts, np.uint32)
        for side in (lower, upper):
            for face, part in zip(side, of_block, strict=False):
                opened[part[face[face[:, 0] > 0, 0] - 1]] = 1
        opened *= np.cumsum(opened, dtype=np.uint32)
        lower, upper = (
            [_renumbered(face, opened[part]) for face, part in zip(side, of_block, strict=False)]
            for side in (lower, upper)
        )
        return cls(fragments, fragments.united(), opened, lower, upper)


def _columns(parts: Fragments, which: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    """First voxel, size, class value and rim of some."""
    return parts.first[which], parts.size[which], parts.value[which], parts.rim[which]


def _renumbered(face: Runs, number: NDArray[np.uint32]) -> Runs:
    """Runs of local labels as runs of what each fragment is numbered."""
    return np.stack([np.concatenate([[np.uint32(0)], number])[face[:, 0]], face[:, 1]], axis=1)
