"""Axes that nobody names: what is read, and what the user is asked to look at."""

import pytest

from unet.volumes.readers.axes import axis_order


@pytest.mark.parametrize(
    ("lengths", "is_remarked"),
    [((5, 80, 72), False), ((80, 72, 36), False), ((80, 72, 35), True), ((72, 80, 30), True), ((80, 72), False)],
)
def test_a_last_axis_of_less_than_half_the_others_is_remarked(lengths: tuple[int, ...], is_remarked: bool) -> None:
    """They are rather sections or colours than x."""
    order = axis_order(lengths, None, "a.h5")
    assert order.names == tuple("zyx"[3 - len(lengths) :])
    assert (order.remark is not None) == is_remarked
