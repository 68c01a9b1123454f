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

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from unet.geometry.box import Box
from unet.geometry.grid import Grid
from unet.segmentation.fragments import BlockTable, Fragments, face_pairs, join_blocks, union
from unet.segmentation.merge_table import ObjectTable, id_dtype

Runs = NDArray[np.uint32]
"""See `unet.geometry.run_length_encoding.run_length_encode`."""


@dataclass(frozen=True)
class LayeredMerge:
    """What touching fragments become: how many objects there are, and, layer by layer, which.

    Attributes
    ----------
    grid : the blocks of the volume
    table_of : reads the table of a block
    first_id, min_size : see `unet.segmentation.merge_table.number_objects`
    offsets : (blocks + 1,) int64, the first fragment of each block
    unions : number of unions of touching fragments
    objects : number of those that are kept
    open : the open unions of each layer, and which of them are one
    """

    grid: Grid
    table_of: Callable[[Box], BlockTable]
    first_id: int
    min_size: int
    offsets: NDArray[np.int64]
    unions: int
    objects: int
    open: Fragments

    @classmethod
    def read(
        cls, grid: Grid, table_of: Callable[[Box], BlockTable], first_id: int = 1, min_size: int = 0
    ) -> "LayeredMerge":
        """Read every table once; parameters as of the class."""
        sizes, columns, starts, unions, objects = [np.zeros(1, np.int64)], [], [0], 0, 0
        pairs, layer = [np.empty((0, 2), np.int64)], None
        for number in range(grid.counts[0]):
            layer = _Layer.read(grid, table_of, number, layer)
            opened = layer.parts.chosen(layer.open > 0)
            pairs.append(layer.touching + np.array([starts[-2], starts[-1]]) - 1 if number else layer.touching)
            sizes.append(np.diff(layer.fragments.offsets))
            columns.append(opened)
            starts.append(starts[-1] + len(opened.size))
            unions += layer.parts.parts - len(opened.size)
            objects += int(layer.closed(min_size).sum())
        part = union(starts[-1], np.concatenate(pairs))
        joined = Fragments.concatenated(columns, part)
        unions, objects = unions + joined.parts, objects + int(joined.united().kept(min_size).sum())
        return cls(grid, table_of, first_id, min_size, np.cumsum(np.concatenate(sizes)), unions, objects, joined)

    def numbered(self) -> Iterator[ObjectTable]:
        """The fragments of each layer, and the objects that have their first voxel in it; every table is read again."""
        whole, voxels = self.open.united(), prod(self.grid.shape[1:])
        id_of_open = np.zeros(whole.parts, id_dtype(self.first_id, self.objects))
        kept, layer_of_first = whole.kept(self.min_size), whole.first // (voxels * self.grid.block[0])
        next_id = self.first_id
        for number in range(self.grid.counts[0]):
            layer = _Layer.read(self.grid, self.table_of, number)
            closed = np.flatnonzero(layer.closed(self.min_size))
            begun = np.flatnonzero(kept & (layer_of_first == number))
            new = Fragments.concatenated([layer.parts.chosen(closed), whole.chosen(begun)])
            order = np.argsort(new.first)
            ids = np.empty(len(order), id_of_open.dtype)
            ids[order] = np.arange(1, len(order) + 1, dtype=ids.dtype) + ids.dtype.type(next_id - 1)
            next_id += len(order)
            id_of_open[begun] = ids[len(closed) :]
            id_of_part = np.zeros(layer.parts.parts, ids.dtype)
            id_of_part[closed] = ids[: len(closed)]
            own = slice(*self.open.offsets[number : number + 2])
            id_of_part[layer.open > 0] = id_of_open[self.open.part[own]]
            yield ObjectTable(id_of_part[layer.fragments.part], new.first[order], new.size[order], new.value[order])


@dataclass(frozen=True)
class _Layer:
    """A layer of blocks, joined.

    Attributes
    ----------
    fragments : of its blocks
    parts : their unions, as fragments
    open : (parts,) 1, 2, ... for the unions that lie at a face to another layer, 0 for the others
    touching : (m, 2) open unions of the layer before and of this one that touch
    upper : the upper face of each block, until the block behind it has come
    """

    fragments: Fragments
    parts: Fragments
    open: NDArray[np.int64]
    touching: NDArray[np.int64]
    upper: deque[Runs]

    @classmethod
    def read(
        cls, grid: Grid, table_of: Callable[[Box], BlockTable], number: int, before: "_Layer | None" = None
    ) -> "_Layer":
        """Read the tables of a layer, each once; `before` is the layer before it, where what touches is asked for."""
        at_face, upper = [np.empty(0, bool)], deque[Runs]()
        pairs = [np.empty((0, 2), np.int64)]

        def tables() -> Iterator[BlockTable]:
            start = 0
            for block, index in enumerate(grid.layer(number)):
                table = table_of(grid.box(index))
                faces = table.faces.get(0)
                at = np.zeros(len(table) + 1, bool)
                if faces and number > 0:
                    at[faces[0][:, 0]] = True
                if faces and number + 1 < grid.counts[0]:
                    at[faces[1][:, 0]] = True
                    upper.append(faces[1])
                if faces and before:
                    value, start_before = before.of_block(block)
                    touching = face_pairs(before.upper.popleft(), faces[0], value, table.value)
                    pairs.append(touching + np.array([start_before - 1, start - 1]))
                at_face.append(at[1:])
                start += len(table)
                yield table

        fragments = join_blocks(grid, tables(), number)
        at_face_of_part = np.zeros(fragments.parts, bool)
        at_face_of_part[fragments.part[np.concatenate(at_face)]] = True
        opened = np.cumsum(at_face_of_part) * at_face_of_part
        high, low = np.concatenate(pairs).T
        touching = [before.open[before.fragments.part[high]], opened[fragments.part[low]]] if before else [high, low]
        return cls(fragments, fragments.united(), opened, np.stack(touching, axis=1), upper)

    def of_block(self, number: int) -> tuple[NDArray[np.uint8], int]:
        """The class values of a block's fragments, and the first of them."""
        start, stop = self.fragments.offsets[number : number + 2].tolist()
        return self.fragments.value[start:stop], start

    def closed(self, min_size: int) -> NDArray[np.bool_]:
        """(parts,) which are objects that end in this layer."""
        return self.parts.kept(min_size) & (self.open == 0)
