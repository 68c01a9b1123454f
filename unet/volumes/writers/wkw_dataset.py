"""Write a dataset of WEBKNOSSOS in wkw: a layer per store, a magnification per level of the pyramid.

```
dataset/
  datasource-properties.json    voxel size, bounding box, type and magnifications of each layer
  raw/1/header.wkw              16 bytes: lengths and type
  raw/1/z0/y0/x0.wkw            a cube of 256 x 256 x 256 voxels, blocks of 32 x 32 x 32 compressed by LZ4
  segmentation/2-2-1/...
```

Voxels count from the first voxel of the volume, since a dataset has no negative positions.

https://docs.webknossos.org/webknossos/data/wkw.html
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet.extras import is_installed, needs
from unet.geometry.box import Box, Index
from unet.storage.files import write_json
from unet.storage.zarr_store import Image
from unet.volumes.writers.levels import WriterError, boxes_of_files, file_digest, file_size, in_c_order, level_shape

PROPERTIES = "datasource-properties.json"
BLOCK, CUBE = 32, 256
"""Sides in voxels of a block, which is compressed, and of a cube, which is a file."""
ELEMENT_CLASSES = {
    **{name: name for name in ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64")},
    "float32": "float",
}
"""Names of the types of voxels in `datasource-properties.json`."""


@dataclass(frozen=True)
class WkwMagnification:
    """A magnification of a layer, which is written cube by cube.

    Attributes
    ----------
    path : folder of the magnification, such as `segmentation/2-2-1`
    dtype : type of the voxels
    shape : voxels `(z, y, x)`
    """

    path: Path
    dtype: np.dtype[Any]
    shape: Index

    @property
    def name(self) -> str:
        """Name of the layer and its magnification."""
        return f"{self.path.parent.name}/{self.path.name}"

    def boxes(self) -> Iterator[Box]:
        """Yield the box of each cube."""
        yield from boxes_of_files(self.shape, (CUBE,) * 3)

    def write(self, box: Box, values: NDArray[Any]) -> None:
        """Write a cube; where it exceeds the volume it holds 0, since only whole cubes can be compressed."""
        import wkw

        given = in_c_order(values)
        cube = np.zeros((len(given), CUBE, CUBE, CUBE), self.dtype, order="F")
        x, y, z = (slice(0, n) for n in box.shape[::-1])
        cube[:, x, y, z] = given.transpose(0, 3, 2, 1)
        self._file(box).unlink(missing_ok=True)  # wkw does not overwrite a compressed cube
        with wkw.Dataset.open(str(self.path)) as dataset:  # a file is finished when its dataset is closed
            dataset.write(box.start[::-1], cube)

    def digest(self, box: Box) -> str:
        """Return the digest of a cube's file."""
        return file_digest(self._file(box))

    def size(self, box: Box) -> int:
        """Return the bytes of a cube's file."""
        return file_size(self._file(box))

    def _file(self, box: Box) -> Path:
        z, y, x = (lo // CUBE for lo in box.start)
        return self.path / f"z{z}" / f"y{y}" / f"x{x}.wkw"


def wkw_magnifications(layer: Path, image: Image) -> list[WkwMagnification]:
    """Create a layer with the magnifications of a store's pyramid, or open it; return its magnifications.

    Raises
    ------
    WriterError
        If the package wkw is missing.
    """
    if not is_installed("wkw"):
        raise WriterError(f"export_webknossos {needs('wkw')}")
    import wkw

    found = []
    for level, factor in enumerate(image.spec.factors):
        path = layer / _name_of(factor)
        path.mkdir(parents=True, exist_ok=True)
        channels, cubes = len(image.spec.channels) or 1, CUBE // BLOCK
        header = wkw.Header(image.dtype.type, channels, 1, BLOCK, cubes, wkw.Header.BLOCK_TYPE_LZ4)
        wkw.Dataset.open(str(path), header).close()  # creates it where there is none
        found.append(WkwMagnification(path, image.dtype, level_shape(image.spec, level)))
    return found


def _name_of(factor: Index) -> str:
    """Return the name of the folder of a magnification.

    >>> _name_of((1, 1, 1)), _name_of((1, 2, 4))
    ('1', '4-2-1')
    """
    return "1" if set(factor) == {1} else "-".join(map(str, factor[::-1]))


def write_properties(dataset: Path, images: Mapping[str, Image], largest_id: int | None) -> None:
    """Write `datasource-properties.json`, by which WEBKNOSSOS knows the layers.

    Parameters
    ----------
    dataset : Path
        Folder of the dataset; its name is the name of the dataset.
    images : mapping
        The store of each layer by its name.
    largest_id : int, optional
        Largest id of the segmentation, behind which new ids are given; None where it is not known.
    """
    first = next(iter(images.values())).spec
    write_json(
        dataset / PROPERTIES,
        {
            "id": {"name": dataset.name, "team": ""},
            "scale": {"factor": list(first.voxel_size_nm[::-1]), "unit": "nanometer"},
            "dataLayers": [_layer(name, image, largest_id) for name, image in images.items()],
        },
    )


def _layer(name: str, image: Image, largest_id: int | None) -> dict[str, Any]:
    spec = image.spec
    z, y, x = spec.shape
    layer: dict[str, Any] = {
        "name": name,
        "category": "segmentation" if spec.kind == "label" else "color",
        "elementClass": ELEMENT_CLASSES[spec.dtype],
        "dataFormat": "wkw",
        "numChannels": len(spec.channels) or 1,
        "boundingBox": {"topLeft": [0, 0, 0], "width": x, "height": y, "depth": z},
        "wkwResolutions": [{"resolution": list(factor[::-1]), "cubeLength": CUBE} for factor in spec.factors],
    }
    if spec.kind == "label":
        layer |= {"mappings": [], **({"largestSegmentId": largest_id} if name == "segmentation" and largest_id else {})}
    return layer
