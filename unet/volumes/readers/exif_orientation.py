"""Tell how viewers turn or mirror an image, by the tag Orientation of TIFF and EXIF. Readers take pixels as stored."""

import struct
from collections.abc import Iterator
from contextlib import suppress

TURNED = {
    2: ("mirrored from left to right", "[x]"),
    3: ("turned by 180 degrees", "[y, x]"),
    4: ("mirrored from top to bottom", "[y]"),
    5: ("transposed", ""),
    6: ("turned by 90 degrees", ""),
    7: ("transposed", ""),
    8: ("turned by 90 degrees", ""),
}
"""What viewers do by the orientation of TIFF and EXIF, and `flip` that does the same."""
ORIENTATION = 274
"""Tag of the orientation."""


def turned_remark(orientation: int) -> Iterator[str]:
    """Yield a remark where viewers show pixels turned or mirrored.

    >>> [remark.partition(";")[0] for remark in turned_remark(4)]
    ['orientation 4, viewers may show it mirrored from top to bottom: the pixels are read as they are stored']
    """
    if orientation in TURNED:
        how, flip = TURNED[orientation]
        same = f"; if the other files of the volume are as it is shown, write `flip: {flip}`" if flip else ""
        yield f"orientation {orientation}, viewers may show it {how}: the pixels are read as they are stored{same}"


def orientation_of_exif(content: bytes) -> int:
    """Return the orientation in the first list of tags of a TIFF without pixels, as EXIF is."""
    order = {b"II": "<", b"MM": ">"}.get(content[:2])
    with suppress(struct.error):
        if order is not None:
            (at,) = struct.unpack_from(f"{order}I", content, 4)
            (count,) = struct.unpack_from(f"{order}H", content, at)
            for entry in range(at + 2, at + 2 + 12 * count, 12):
                tag, _, _, number = struct.unpack_from(f"{order}HHIH", content, entry)
                if tag == ORIENTATION:
                    return int(number) if number in TURNED else 1
    return 1
