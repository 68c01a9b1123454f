"""Refuse chunks of Blosc that are cut short or damaged.

c-blosc decodes a truncated frame together with the memory behind it. It reserves as much memory as the header
says.
"""

from typing import Any

import numcodecs
import zarr
from numcodecs.compat import ensure_contiguous_ndarray
from numcodecs.registry import register_codec as register_v2_codec
from zarr.codecs import BloscCodec
from zarr.core.array_spec import ArraySpec
from zarr.core.buffer import Buffer
from zarr.registry import register_codec as register_v3_codec

BLOSC_HEADER = 16
"""Bytes of the header of a Blosc frame. Bytes 4 to 15 hold the decoded length, and the lengths of a block and the
frame."""
SMALL_BYTES, MAX_RATIO = 1 << 26, 100_000
"""Largest compression that is believed of a frame of more than 64 MiB. zstd stores equal bytes in 1/18,000."""


def refuse_truncated_frame(frame: bytes | memoryview) -> None:
    """Raise an error if a Blosc frame is truncated or damaged.

    Raises
    ------
    ValueError
        If the frame is shorter than its header says, or too short for the decoded length in its header.
    """
    content = memoryview(frame).cast("B")
    decoded = int.from_bytes(content[4:8], "little")
    if decoded > max(SMALL_BYTES, MAX_RATIO * len(content)):
        raise ValueError(f"the chunk is damaged: {len(content)} bytes of Blosc cannot hold the {decoded} that it says")
    said = int.from_bytes(content[BLOSC_HEADER - 4 : BLOSC_HEADER], "little") if len(content) >= BLOSC_HEADER else 0
    if len(content) < max(said, BLOSC_HEADER):
        raise ValueError(f"the chunk is cut short: {len(content)} bytes of Blosc, whose header says {said}")


class WholeBlosc(numcodecs.Blosc):
    """Blosc of Zarr v2 that refuses a truncated frame."""

    def decode(self, buf: Any, out: Any = None) -> Any:
        """Return the decompressed content of a frame."""
        refuse_truncated_frame(memoryview(ensure_contiguous_ndarray(buf, self.max_buffer_size)))
        return super().decode(buf, out)


class WholeBloscCodec(BloscCodec):
    """Blosc of Zarr v3 that refuses a truncated frame."""

    async def _decode_single(self, chunk_data: Buffer, chunk_spec: ArraySpec) -> Buffer:
        refuse_truncated_frame(chunk_data.to_bytes())
        return await super()._decode_single(chunk_data, chunk_spec)


def register_checked_blosc() -> None:
    """Let zarr decode Blosc of both versions by the classes above, in this process."""
    register_v2_codec(WholeBlosc)
    register_v3_codec("blosc", WholeBloscCodec)
    zarr.config.set({"codecs.blosc": f"{__name__}.{WholeBloscCodec.__name__}"})
