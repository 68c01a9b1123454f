"""Write DM3 and DM4. No package writes them; the layout is that of https://er-c.org/cbb/info/dmformat."""

import struct
from typing import Any

import numpy as np

GROUP, DATA, ARRAY = 20, 21, 20
ELEMENTS = {"i2": 2, "i4": 3, "u2": 4, "u4": 5, "f4": 6, "f8": 7, "u1": 8, "i1": 9, "c8": 6}
DATA_TYPES = {"i2": 1, "f4": 2, "c8": 3, "u1": 6, "i4": 7, "i1": 9, "u2": 10, "u4": 11, "f8": 12}


class Tags:
    """Encode tags of one version of the format."""

    def __init__(self, version: int) -> None:
        self.version = version

    def word(self, *numbers: int) -> bytes:
        """Numbers in the width of the version."""
        return b"".join(struct.pack(">I" if self.version == 3 else ">Q", number) for number in numbers)

    def group(self, tags: list[tuple[str, Any]]) -> bytes:
        """A group: two flags, the number of tags, the tags."""
        return b"\1\0" + self.word(len(tags)) + b"".join(self.tag(name, value) for name, value in tags)

    def tag(self, name: str, value: Any) -> bytes:
        """A group for a list of tags, an array for an array, else a number."""
        kind, body = (GROUP, self.group(value)) if isinstance(value, list) else (DATA, self.data(value))
        size = struct.pack(">Q", len(body)) if self.version == 4 else b""
        return bytes([kind]) + struct.pack(">H", len(name)) + name.encode() + size + body

    def data(self, value: Any) -> bytes:
        if isinstance(value, np.ndarray):
            info = (ARRAY, ELEMENTS[value.dtype.str[1:]], value.size * (2 if value.dtype.kind == "c" else 1))
            return b"%%%%" + self.word(3, *info) + value.astype(value.dtype.newbyteorder("<")).tobytes()
        if isinstance(value, float):
            return b"%%%%" + self.word(1, ELEMENTS["f4"]) + struct.pack("<f", value)
        return b"%%%%" + self.word(1, ELEMENTS["u4"]) + struct.pack("<I", value)


def text(words: str) -> np.ndarray:
    """Text as an array of 16 bits per letter."""
    return np.frombuffer(words.encode("utf-16-le"), "u2")


def image(values: np.ndarray, edges: list[float], units: list[str], data_type: int | None = None) -> list[Any]:
    """The tags of an image; edges and units are in the order of the stored axes, the last is x."""
    calibrated = [
        ("", [("Origin", 0.0), ("Scale", float(edge)), ("Units", text(unit))])
        for edge, unit in zip(edges[::-1], units[::-1], strict=True)
    ]
    number = data_type if data_type is not None else DATA_TYPES[values.dtype.str[1:]]
    dimensions = [("", int(n)) for n in values.shape[::-1]]
    return [
        (
            "ImageData",
            [
                ("Calibrations", [("Dimension", calibrated)]),
                ("Data", values.ravel()),
                ("DataType", number),
                ("Dimensions", dimensions),
                ("PixelDepth", values.dtype.itemsize),
            ],
        )
    ]


def dm_file(
    values: np.ndarray,
    voxel_size_nm: tuple[float, ...] | None = None,
    version: int = 3,
    units: list[str] | None = None,
    images: list[list[Any]] | None = None,
) -> bytes:
    """A file with a preview and the images: one of the values if none are given."""
    edges = list(voxel_size_nm or [0.0] * values.ndim)
    units = units or (["nm"] * values.ndim if voxel_size_nm else [""] * values.ndim)
    preview = image(np.zeros((4, 4), "u4"), [1.0, 1.0], ["", ""], data_type=23)
    tags = Tags(version)
    listed = [("", one) for one in (preview, *(images or [image(values, edges, units)]))]
    root = tags.group([("ImageList", listed), ("InImageMode", 1)])
    return struct.pack(">I", version) + tags.word(len(root)) + struct.pack(">I", 1) + root + bytes(8)
