"""A volume mirrored at its faces is numpy's padding of mode reflect."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from unet.geometry.mirroring import mirrored_indices


@settings(deadline=None)
@given(size=st.integers(1, 9), start=st.integers(-30, 30), length=st.integers(1, 40))
def test_mirrored_indices_are_those_of_numpy_reflect(size: int, start: int, length: int) -> None:
    before, after = max(0, -start), max(0, start + length - size)
    padded = np.pad(np.arange(size), (before, after), mode="reflect" if size > 1 else "edge")
    np.testing.assert_array_equal(mirrored_indices(start, start + length, size), padded[start + before :][:length])
