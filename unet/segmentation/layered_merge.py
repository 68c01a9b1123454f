"""Merge the fragments that touch, one layer of blocks at a time: memory of a layer, not of the volume.

Ids are assigned in scan order of each object's first voxel. A layer of blocks covers a contiguous range of the scan
order. Ids can therefore be assigned layer by layer: the objects whose first voxel lies in a layer get the next ids.

1. `_Layer.read`: find the connected components of each layer's fragments. A component that touches no face to another
   layer is **interior**: its object ends in this layer. The others are **boundary** components.
2. `LayeredMerge.read`: find the connected components of the boundary components of all layers, and count the objects.
3. `LayeredMerge.object_tables`: read the tables again, and number the objects layer by layer.

```
 layer 0   a a . b b . c      a: interior        first voxels in layer 0: a, b, c -> 1, 2, 3
           . . . b . . c      b, c: boundary
----------------------------  b, c and d are one: b
 layer 1   . . . d d d d      d: boundary        first voxel in layer 1: e -> 3 (c became 2 with b)
           e e . . . . .      e: interior
```

The result is that of `merge_table.number_objects` for one solve over all fragments. One exception: a watershed lists
fragments that have all their voxels beyond their block's faces, and such a fragment may have id 0.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from unet.geometry.box import Box
from unet.geometry.grid import Grid
from unet.segmentation.fragments import BlockTable, Fragments, connected_component_labels, face_pairs, join_blocks
from unet.segmentation.merge_table import ObjectTable, id_dtype

Runs = NDArray[np.uint32]
"""A plane of labels, see `unet.geometry.run_length_encoding.run_length_encode`."""


@dataclass(frozen=True)
class LayeredMerge:
    """The objects that touching fragments form: their number, and, layer by layer, the objects themselves.

    Attributes
    ----------
    grid : the blocks of the volume
    table_of : function that reads the table of a block
    first_id, min_size : see `unet.segmentation.merge_table.number_objects`
    offsets : (blocks + 1,) int64, the first fragment of each block
    components : number of connected components of touching fragments
    objects : number of the components that are kept as objects
    boundary : the boundary components of each layer, as fragments of one block per layer, and their components
    """

    grid: Grid
    table_of: Callable[[Box], BlockTable]
    first_id: int
    min_size: int
    offsets: NDArray[np.int64]
    components: int
    objects: int
    boundary: Fragments

    @classmethod
    def read(
        cls, grid: Grid, table_of: Callable[[Box], BlockTable], first_id: int = 1, min_size: int = 0
    ) -> "LayeredMerge":
        """Read every table once (pass 2); parameters as of the class."""
        sizes, columns, starts, components, objects = [np.zeros(1, np.int64)], [], [0], 0, 0
        pairs, layer = [np.empty((0, 2), np.int64)], None
        for number in range(grid.counts[0]):
            layer = _Layer.read(grid, table_of, number, layer)
            boundary = layer.components.select(layer.boundary_number > 0)
            pairs.append(layer.touching + np.array([starts[-2], starts[-1]]) - 1 if number else layer.touching)
            sizes.append(np.diff(layer.fragments.offsets))
            columns.append(boundary)
            starts.append(starts[-1] + len(boundary.size))
            components += layer.components.component_count - len(boundary.size)
            objects += int(layer.interior_objects(min_size).sum())
        component_of = connected_component_labels(starts[-1], np.concatenate(pairs))
        joined = Fragments.concatenate(columns, component_of)
        components += joined.component_count
        objects += int(joined.merge_components().is_object(min_size).sum())
        offsets = np.cumsum(np.concatenate(sizes))
        return cls(grid, table_of, first_id, min_size, offsets, components, objects, joined)

    def object_tables(self) -> Iterator[ObjectTable]:
        """Yield the ids of each layer's fragments, and the objects with their first voxel in the layer (pass 3).

        Every table is read a second time.
        """
        whole, voxels = self.boundary.merge_components(), prod(self.grid.shape[1:])
        id_of_boundary = np.zeros(whole.component_count, id_dtype(self.first_id, self.objects))
        kept, layer_of_first = whole.is_object(self.min_size), whole.first_voxel // (voxels * self.grid.block[0])
        next_id = self.first_id
        for number in range(self.grid.counts[0]):
            layer = _Layer.read(self.grid, self.table_of, number)
            interior = np.flatnonzero(layer.interior_objects(self.min_size))
            begun = np.flatnonzero(kept & (layer_of_first == number))
            new = Fragments.concatenate([layer.components.select(interior), whole.select(begun)])
            order = np.argsort(new.first_voxel)
            ids = np.empty(len(order), id_of_boundary.dtype)
            ids[order] = np.arange(1, len(order) + 1, dtype=ids.dtype) + ids.dtype.type(next_id - 1)
            next_id += len(order)
            id_of_boundary[begun] = ids[len(interior) :]
            id_of_component = np.zeros(layer.components.component_count, ids.dtype)
            id_of_component[interior] = ids[: len(interior)]
            own = slice(*self.boundary.offsets[number : number + 2])
            id_of_component[layer.boundary_number > 0] = id_of_boundary[self.boundary.component_of[own]]
            lut = id_of_component[layer.fragments.component_of]
            yield ObjectTable(lut, new.first_voxel[order], new.size[order], new.class_value[order])


@dataclass(frozen=True)
class _Layer:
    """A layer of blocks, joined (pass 1).

    Attributes
    ----------
    fragments : fragments of the layer's blocks
    components : their connected components, as fragments
    boundary_number : (components,) 1, 2, ... for the components at a face to another layer, 0 for interior ones
    touching : (m, 2) boundary components of the layer before and of this layer that touch
    upper : the upper face of each block, until the block behind it has come
    """

    fragments: Fragments
    components: Fragments
    boundary_number: NDArray[np.int64]
    touching: NDArray[np.int64]
    upper: deque[Runs]

    @classmethod
    def read(
        cls, grid: Grid, table_of: Callable[[Box], BlockTable], number: int, before: "_Layer | None" = None
    ) -> "_Layer":
        """Read the tables of a layer, each once; give the layer `before` it where `touching` is wanted."""
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
                    class_value, start_before = before.block_classes(block)
                    touching = face_pairs(before.upper.popleft(), faces[0], class_value, table.class_value)
                    pairs.append(touching + np.array([start_before - 1, start - 1]))
                at_face.append(at[1:])
                start += len(table)
                yield table

        fragments = join_blocks(grid, tables(), number)
        is_boundary = np.zeros(fragments.component_count, bool)
        is_boundary[fragments.component_of[np.concatenate(at_face)]] = True
        boundary_number = np.cumsum(is_boundary) * is_boundary
        high, low = np.concatenate(pairs).T
        touching = [high, low]
        if before:
            high = before.boundary_number[before.fragments.component_of[high]]
            touching = [high, boundary_number[fragments.component_of[low]]]
        return cls(fragments, fragments.merge_components(), boundary_number, np.stack(touching, axis=1), upper)

    def block_classes(self, number: int) -> tuple[NDArray[np.uint8], int]:
        """Return the class values of a block's fragments, and the number of its first fragment in the layer."""
        start, stop = self.fragments.offsets[number : number + 2].tolist()
        return self.fragments.class_value[start:stop], start

    def interior_objects(self, min_size: int) -> NDArray[np.bool_]:
        """Return (components,) True for the interior components that are objects."""
        return self.components.is_object(min_size) & (self.boundary_number == 0)
