"""Shared by tests of readers: a volume of noise, boxes of it, what a source reads, and how it is refused."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unet.config.source import SourceConfig
from unet.geometry.box import Box
from unet.volumes.readers.errors import SourceError
from unet.volumes.readers.open import open_source
from unet.volumes.readers.source import Source

SHAPE = (5, 37, 50)


def volume(dtype: str = "uint8", shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """Noise over the whole range of the dtype."""
    rng = np.random.default_rng(0)
    if dtype == "float32":
        return rng.normal(size=shape).astype(dtype)
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)


def boxes(shape: tuple[int, ...], count: int = 12) -> list[Box]:
    """The whole volume and random boxes inside it."""
    rng = np.random.default_rng(1)
    starts = [tuple(int(rng.integers(0, n)) for n in shape) for _ in range(count)]
    stops = [tuple(int(rng.integers(a + 1, n + 1)) for a, n in zip(start, shape, strict=True)) for start in starts]
    return [Box.of_shape(shape), *(Box(a, b) for a, b in zip(starts, stops, strict=True))]


def assert_reads(address: Path | str, expected: np.ndarray) -> None:
    """The source has the shape, dtype and, in every box, the voxels of an array."""
    source = open_source(str(address))
    source.check(Box.of_shape(source.shape))
    assert source.address == str(address)
    assert source.shape == expected.shape
    assert source.dtype == expected.dtype
    assert source.dtype.isnative
    for box in boxes(expected.shape):
        found = source.read(box)
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected[box.slices])
    restored = pickle.loads(pickle.dumps(source))  # sources travel to other processes
    np.testing.assert_array_equal(restored.read(boxes(expected.shape)[1]), expected[boxes(expected.shape)[1].slices])


def read_headers(address: Path | str) -> None:
    """Open a source, and check the headers of all its sections."""
    source = open_source(str(address))
    source.check(Box.of_shape(source.shape))


def refusal(address: Path | str, *, whole: bool = False) -> str:
    """The message with which an address is refused, at opening, or at the check of all headers."""
    if not whole:
        with pytest.raises(SourceError) as refused:
            open_source(str(address))
    else:
        source = open_source(str(address))
        with pytest.raises(SourceError) as refused:
            source.check(Box.of_shape(source.shape))
    return str(refused.value)


def truncate(path: Path, fraction: float) -> int:
    """Cut the end off a file; the bytes left."""
    content = path.read_bytes()
    kept = int(len(content) * fraction)
    path.write_bytes(content[:kept])
    return kept


def opened(path: Path | str, **settings: Any) -> Source:
    """A source with settings of the user."""
    return open_source(SourceConfig(path=str(path), **settings))


def whole(source: Source) -> np.ndarray:
    """All voxels, after all headers are checked."""
    box = Box.of_shape(source.shape)
    source.check(box)
    return source.read(box)


def told(path: Path | str, **settings: Any) -> str:
    """The remarks on a file."""
    source = opened(path, **settings)
    source.check(Box.of_shape(source.shape))
    return "; ".join(source.remarks)
