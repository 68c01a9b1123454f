"""Names and sizes of objects as neuroglancer's segment properties, by which a viewer lists, sorts and finds objects.

https://github.com/google/neuroglancer/blob/master/src/datasource/precomputed/segment_properties.md
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet.segmentation.merge_table import MergeTable

LISTED = 100_000
"""Objects that are listed, the largest of a volume: a viewer holds the list in memory."""


def segment_properties(ids: NDArray[Any], sizes: NDArray[np.int64], names: Sequence[str]) -> dict[str, Any]:
    """Return names and sizes of the largest objects, at most `LISTED`, as JSON values.

    Sizes beyond 2^24 voxels are rounded to float32, since the format has no integers of 64 bits.

    Parameters
    ----------
    ids, sizes, names : (objects,) ids, voxels of each object, and what a viewer calls it

    >>> found = segment_properties(np.array([3, 9]), np.array([40, 7]), ["axon 3", "glia 9"])["inline"]
    >>> found["ids"], [one["values"] for one in found["properties"]]
    (['3', '9'], [['axon 3', 'glia 9'], [40.0, 7.0]])
    """
    largest = np.sort(np.argsort(-sizes, kind="stable")[:LISTED])
    voxels = {"id": "voxels", "type": "number", "data_type": "float32", "description": "Size in voxels"}
    properties = [
        {"id": "name", "type": "label", "values": [names[row] for row in largest]},
        {**voxels, "values": sizes[largest].astype(np.float32).tolist()},
    ]
    inline = {"ids": [str(one) for one in ids[largest]], "properties": properties}
    return {"@type": "neuroglancer_segment_properties", "inline": inline}


def properties_of_objects(table: MergeTable, classes: Sequence[str | None] = (None,)) -> dict[str, Any]:
    """Return names and sizes of the objects of a merge table as segment properties.

    Parameters
    ----------
    classes : names of the classes that make objects, in the order of their values; an object without one is an object

    >>> of_class = np.array([2, 1], np.uint8)
    >>> table = MergeTable(np.zeros(0), np.arange(2), np.array([5, 6]), of_class, np.zeros(1, np.int64), first_id=7)
    >>> properties_of_objects(table, ["cell", "nucleus"])["inline"]["properties"][0]["values"]
    ['nucleus 7', 'cell 8']
    """
    ids = np.arange(table.objects, dtype=np.uint64) + np.uint64(table.first_id)
    kinds = [classes[max(value, 1) - 1] or "object" for value in np.asarray(table.class_values).tolist()]
    names = [f"{kind} {one}" for kind, one in zip(kinds, ids.tolist(), strict=True)]
    return segment_properties(ids, np.asarray(table.sizes), names)
