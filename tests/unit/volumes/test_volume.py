"""A volume's layout as survey writes it, and its stores."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unet.geometry.block_ranges import block_range_names
from unet.geometry.box import Box
from unet.storage.files import write_json
from unet.volumes.layout import VolumeLayout
from unet.volumes.volume import Volume, padded_in_section

LAYOUT = VolumeLayout(
    shape=(3, 40, 50),
    dtype="uint16",
    voxel_size_nm=(50.0, 4.0, 4.0),
    offset_nm=(0.0, 8.0, 0.0),
    chunk=(1, 16, 16),
    block=(2, 32, 32),
    labels_dtype="uint64",
    masked=True,
)


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    """An empty volume."""
    write_json(tmp_path / "survey.json", {"layout": asdict(LAYOUT)})
    return Volume.open(tmp_path / "train", tmp_path / "survey.json")


def test_the_layout_comes_back_from_the_receipt_of_survey(volume: Volume) -> None:
    assert volume.layout == LAYOUT
    assert volume.name == "train"


def test_block_ranges_share_the_blocks_out(volume: Volume) -> None:
    names = block_range_names(volume.layout.grid, 2 * 2 * 32 * 32)
    assert [box for name in names for box in volume.blocks(name)] == LAYOUT.grid.boxes()


def test_all_stores_have_the_layout_of_the_volume(volume: Volume) -> None:
    volume.create("raw", "uint16")
    probability = volume.create("probability", "uint8", channels=["a", "b"]).spec
    assert volume.image("raw").spec.block == probability.block == LAYOUT.block
    assert (probability.voxel_size_nm, probability.offset_nm) == (LAYOUT.voxel_size_nm, LAYOUT.offset_nm)
    assert (probability.name, probability.channels) == ("train probability", ("a", "b"))


def test_tissue_is_where_the_mask_is_not_0(volume: Volume) -> None:
    mask, box = volume.create("mask", "uint8", kind="label"), LAYOUT.grid.boxes()[0]
    values = np.zeros(box.shape, np.uint8)
    values[:, :5] = 1
    mask.write_block(box, values)
    np.testing.assert_array_equal(volume.tissue_mask(box), values != 0)
    unmasked = Volume(volume.folder, VolumeLayout(**{**asdict(LAYOUT), "masked": False}))
    assert unmasked.tissue_mask(box) is None


def test_every_block_has_a_table_of_its_own(volume: Volume) -> None:
    stores = ("labels", "segmentation")
    kinds = [kind(store) for store in stores for kind in (volume.fragment_tables, volume.edge_tables)]
    tables = {tables.of(box) for tables in kinds for box in LAYOUT.grid.boxes()}
    assert len(tables | {volume.merge_table(store) for store in stores}) == 4 * 8 + 2


def test_what_a_job_has_written_is_found_by_its_name(volume: Volume) -> None:
    raw = volume.create("raw", "uint16")
    for one in (raw, volume.fragment_tables("labels"), volume.edge_tables("segmentation")):
        found = volume.store_named(one.name)
        assert (type(found), found.path, found.name) == (type(one), one.path, one.name)
        assert found.sizes() == dict.fromkeys(LAYOUT.grid.boxes())
    assert not list(volume.folder.glob("*-tables")), "looking makes nothing"


@settings(deadline=None)
@given(
    start=st.tuples(*[st.integers(0, 20)] * 3),
    size=st.tuples(*[st.integers(1, 9)] * 3),
    margin=st.integers(0, 12),
)
def test_a_padded_box_holds_the_box_and_never_leaves_its_sections(
    start: tuple[int, ...], size: tuple[int, ...], margin: int
) -> None:
    shape = (29, 29, 29)
    box = Box(start, tuple(lo + n for lo, n in zip(start, size, strict=True)))
    window, inner = padded_in_section(box, margin, shape)
    voxels = np.arange(29**3).reshape(shape)
    np.testing.assert_array_equal(voxels[window.slices][inner], voxels[box.slices])
    assert (window.start[0], window.stop[0]) == (box.start[0], box.stop[0])
    assert Box.of_shape(shape).contains(window)
    for axis in (1, 2):
        assert window.start[axis] == max(0, box.start[axis] - margin)
        assert window.stop[axis] == min(29, box.stop[axis] + margin)
