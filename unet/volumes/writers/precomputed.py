"""Write neuroglancer's precomputed format: sharded files, a scale per level of the pyramid, by tensorstore.

```
segmentation/
  info                              JSON: type, scales, encoding, sharding
  8_8_40/00.shard, 01.shard ...     a file per cube of chunks of level 0
  16_16_40/...                      of level 1
  segment_properties/info           sizes of objects, where they are known
```

Ids are encoded as `compressed_segmentation`, other values `raw`; each chunk is compressed by gzip. A shard holds up to
64 chunks of 64 x 64 x 64 voxels, which follow each other in Morton order. They fill a box, which is written at once.

https://github.com/google/neuroglancer/blob/master/src/datasource/precomputed/volume.md and sharded.md
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import ceil, log2
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet.extras import is_installed, needs
from unet.geometry.box import Box, Index
from unet.storage.files import write_json
from unet.storage.zarr_store import Image
from unet.volumes.writers.levels import WriterError, boxes_of_files, file_digest, file_size, in_c_order, level_shape

CHUNK = 64
"""Side in voxels of a chunk."""
SHARD_BITS = 6
"""Logarithm of the chunks in a shard: 2^6 chunks are 256 x 256 x 256 voxels in the middle of a large volume."""
DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "float32")
"""Types of voxels of the format."""


def morton_code(position: Index, counts: Index) -> int:
    """Return the compressed Morton code of a chunk: the bits of its position, interleaved, without those always 0.

    Parameters
    ----------
    position, counts : Index
        Position of the chunk and number of chunks, `(x, y, z)`.

    >>> [morton_code((x, y, 0), (4, 2, 1)) for y in (0, 1) for x in range(4)]
    [0, 1, 4, 5, 2, 3, 6, 7]
    """
    code = shift = 0
    for bit in range(max(counts).bit_length()):
        for at, count in zip(position, counts, strict=True):
            if count > 1 << bit:
                code |= (at >> bit & 1) << shift
                shift += 1
    return code


def shard_shape(counts: Index) -> Index:
    """Return the chunks along x, y and z of a shard: those whose Morton codes differ in the lowest bits alone.

    >>> shard_shape((100, 100, 100)), shard_shape((100, 100, 1)), shard_shape((3, 2, 2))
    ((4, 4, 4), (8, 8, 1), (4, 2, 2))
    """
    shape, left = [1, 1, 1], SHARD_BITS
    for bit in range(max(counts).bit_length()):
        for axis, count in enumerate(counts):
            if count > 1 << bit and left:
                shape[axis] *= 2
                left -= 1
    return tuple(shape)


@dataclass(frozen=True)
class PrecomputedScale:
    """A scale of a precomputed volume, which is written shard by shard.

    Attributes
    ----------
    path : folder of the volume
    key : folder of the scale in it
    dtype : type of the voxels
    shape : voxels `(z, y, x)`
    offset : position of the first voxel, `(x, y, z)` in voxels of the scale
    array : the scale as tensorstore opens it, `(x, y, z, c)`
    """

    path: Path
    key: str
    dtype: np.dtype[Any]
    shape: Index
    offset: Index
    array: Any

    @property
    def name(self) -> str:
        """Name of the volume and its scale."""
        return f"{self.path.name}/{self.key}"

    @property
    def _counts(self) -> Index:
        return tuple(ceil(n / CHUNK) for n in self.shape[::-1])

    def boxes(self) -> Iterator[Box]:
        """Yield the box of each shard."""
        yield from boxes_of_files(self.shape, tuple(CHUNK * n for n in shard_shape(self._counts))[::-1])

    def write(self, box: Box, values: NDArray[Any]) -> None:
        """Write the voxels of a shard."""
        moved = Box(box.start[::-1], box.stop[::-1]).shifted(self.offset)
        self.array[moved.slices].write(in_c_order(values).transpose(3, 2, 1, 0)).result()

    def digest(self, box: Box) -> str:
        """Return the digest of a shard's file."""
        return file_digest(self._file(box))

    def size(self, box: Box) -> int:
        """Return the bytes of a shard's file."""
        return file_size(self._file(box))

    def _file(self, box: Box) -> Path:
        position = tuple(lo // CHUNK for lo in box.start[::-1])
        digits = ceil(_shard_bits(self._counts) / 4)
        return self.path / self.key / f"{morton_code(position, self._counts) >> SHARD_BITS:0{digits}x}.shard"


def precomputed_scales(folder: Path, image: Image) -> list[PrecomputedScale]:
    """Create a precomputed volume with the scales of a store's pyramid, or open it; return its scales.

    The first voxel lies at the offset of the store, rounded to whole voxels of each scale.

    Raises
    ------
    WriterError
        If tensorstore is missing, or the format has no such type.
    """
    if not is_installed("tensorstore"):
        raise WriterError(f"export_precomputed {needs('tensorstore')}")
    if image.spec.dtype not in DTYPES:
        raise WriterError(f"{image.name} is of {image.spec.dtype}, but precomputed volumes hold {', '.join(DTYPES)}")
    return [_scale(folder, image, level) for level in range(len(image.spec.factors))]


def _scale(folder: Path, image: Image, level: int) -> PrecomputedScale:
    import tensorstore

    spec, shape = image.spec, level_shape(image.spec, level)
    edges = [v * f for v, f in zip(spec.voxel_size_nm, spec.factors[level], strict=True)]
    offset = tuple(round(o / edge) for o, edge in zip(spec.offset_nm, edges, strict=True))[::-1]
    key, is_ids = "_".join(f"{edge:g}" for edge in edges[::-1]), spec.kind == "label"
    encoded = is_ids and spec.dtype in ("uint32", "uint64")
    scale = {
        "key": key,
        "size": shape[::-1],
        "resolution": edges[::-1],
        "voxel_offset": offset,
        "chunk_size": [CHUNK] * 3,
        "encoding": "compressed_segmentation" if encoded else "raw",
        "sharding": _sharding(tuple(ceil(n / CHUNK) for n in shape[::-1])),
    }
    if encoded:
        scale["compressed_segmentation_block_size"] = [8, 8, 8]
    whole = {
        "type": "segmentation" if is_ids else "image",
        "data_type": spec.dtype,
        "num_channels": len(spec.channels) or 1,
    }
    given = {
        "driver": "neuroglancer_precomputed",
        "kvstore": {"driver": "file", "path": f"{folder.absolute()}/"},
        "multiscale_metadata": whole,
        "scale_metadata": scale,
    }
    array = tensorstore.open(given, open=True, create=True).result()
    return PrecomputedScale(folder, key, image.dtype, shape, offset, array)


def _sharding(counts: Index) -> dict[str, Any]:
    return {
        "@type": "neuroglancer_uint64_sharded_v1",
        "preshift_bits": SHARD_BITS,
        "hash": "identity",
        "minishard_bits": 0,
        "shard_bits": _shard_bits(counts),
        "minishard_index_encoding": "gzip",
        "data_encoding": "gzip",
    }


def _shard_bits(counts: Index) -> int:
    """Return the bits of a Morton code that number the shards."""
    return max(0, sum(ceil(log2(n)) for n in counts) - SHARD_BITS)


def add_segment_properties(folder: Path, properties: Mapping[str, Any]) -> None:
    """Add names and sizes of objects to a precomputed segmentation."""
    write_json(folder / "segment_properties" / "info", properties)
    info = json.loads((folder / "info").read_text())
    write_json(folder / "info", info | {"segment_properties": "segment_properties"})
