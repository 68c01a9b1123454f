"""Sizes of objects as neuroglancer's segment properties, by which a viewer lists, sorts and finds objects.

https://github.com/google/neuroglancer/blob/master/src/datasource/precomputed/segment_properties.md
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet.segmentation.merge_table import MergeTable

LISTED = 100_000
"""Objects that are listed, the largest of a volume: a viewer holds the list in memory."""


def segment_properties(ids: NDArray[Any], sizes: NDArray[np.int64]) -> dict[str, Any]:
    """Return the sizes of the largest objects, at most `LISTED`, as JSON values.

    Sizes beyond 2^24 voxels are rounded to float32, since the format has no integers of 64 bits.

    Parameters
    ----------
    ids, sizes : (objects,) ids, and voxels of each object

    >>> segment_properties(np.array([3, 9]), np.array([40, 7]))["inline"]["ids"]
    ['3', '9']
    """
    largest = np.sort(np.argsort(-sizes, kind="stable")[:LISTED])
    voxels = {"id": "voxels", "type": "number", "data_type": "float32", "description": "Size in voxels"}
    properties = [{**voxels, "values": sizes[largest].astype(np.float32).tolist()}]
    inline = {"ids": [str(one) for one in ids[largest]], "properties": properties}
    return {"@type": "neuroglancer_segment_properties", "inline": inline}


def properties_of_objects(table: MergeTable) -> dict[str, Any]:
    """Return the sizes of the objects of a merge table as segment properties."""
    ids = np.arange(table.objects, dtype=np.uint64) + np.uint64(table.first_id)
    return segment_properties(ids, np.asarray(table.sizes))
