"""The layers of the viewer: colours that match the truth, lines between pieces, errors, and coarse levels."""

from pathlib import Path

import numpy as np
import pytest

from unet.evaluation.contingency import contingency
from unet.evaluation.error_analysis import SectionErrorFinder, error_map, matched_ids
from unet.geometry.box import Box
from unet.run.report.pictures import ERROR_COLOURS, label_colours
from unet.run.report.tiles import TileLevel, tile_levels
from unet.run.report.viewer_layers import error_colours, matched, object_colours, read_level
from unet.storage.ngff import ImageSpec
from unet.storage.zarr_store import create_image


def test_an_object_has_the_colour_of_the_truth_that_it_covers_most() -> None:
    truth = np.array([[[1, 1, 1, 2, 2, 0]]])
    found = np.array([[[5, 5, 6, 6, 6, 9]]])  # 5 and most of object 1; 6 has more of 2; 9 has none
    partners = matched(found, *matched_ids(contingency(truth, found)))
    assert partners.tolist() == [[[1, 1, 2, 2, 2, 9]]]
    shown = object_colours(found, partners)[0, 0]
    expected = np.rint(label_colours(np.array([1, 1, 2, 2, 2, 9])) * 255)
    np.testing.assert_array_equal(shown[:, :3], expected)
    assert (shown[:, 3] == 255).all()


def test_a_line_parts_two_pieces_of_one_colour_and_nothing_is_drawn_on_the_background() -> None:
    found = np.array([[[5, 5, 5, 6, 6, 6, 0, 0]]])
    shown = object_colours(found, np.where(found > 0, 1, 0))[0, 0]
    assert (shown[[0, 1, 4, 5]] == shown[0]).all()
    assert (shown[[2, 3], :3] < shown[0, :3]).all()  # the line
    assert (shown[6:] == 0).all()


def test_errors_are_drawn_in_their_colours_and_right_voxels_not_at_all() -> None:
    shown = error_colours(np.array([[[0, 1, 2, 3]]], np.uint8))[0, 0]
    assert shown[0].tolist() == [0, 0, 0, 0]
    np.testing.assert_array_equal(shown[1:, :3], np.rint(ERROR_COLOURS[1:] * 255))
    assert (shown[1:, 3] == 255).all()


@pytest.mark.parametrize("dtype", [np.uint16, np.uint64])
def test_errors_of_sections_are_those_of_each_section_alone(dtype: type) -> None:
    rng = np.random.default_rng(3)
    truth = rng.integers(0, 4, (5, 8, 8)).astype(dtype)
    truth[truth == 3] = np.iinfo(dtype).max - 1
    found = rng.integers(0, 4, (5, 8, 8)) + 10 * np.arange(5)[:, None, None]
    found[found % 10 == 0] = 0
    alone = np.stack([error_map(t, f, contingency(t, f)) for t, f in zip(truth, found, strict=True)])
    ids = np.unique(found[found > 0])
    finder = SectionErrorFinder(contingency(truth, found), ids.astype(np.uint64), ids // 10)
    np.testing.assert_array_equal(finder.errors(truth, found), alone)
    assert set(np.unique(alone)) == {0, 1, 2, 3}


@pytest.mark.parametrize("channels", [(), ("a", "b")])
def test_a_box_of_a_coarse_level_is_that_part_of_the_whole_level(tmp_path: Path, channels: tuple[str, ...]) -> None:
    spec = ImageSpec(
        name="raw", shape=(10, 70, 66), dtype="uint8", chunk=(2, 16, 16), block=(4, 32, 32), voxel_size_nm=(10, 10, 10),
        offset_nm=(0, 0, 0), kind="image", channels=channels,
    )  # fmt: skip
    image = create_image(tmp_path / "raw.zarr", spec)
    rng = np.random.default_rng(0)
    for box in image.grid.boxes():
        image.write_block(box, rng.integers(0, 255, (*[len(channels)] * bool(channels), *box.shape), np.uint8))
    levels = tile_levels(spec.shape, spec.factors, spec.voxel_size_nm)
    levels.append(TileLevel(0, (3, 2, 5), (3, 2, 5), (4, 35, 14)))
    for level in levels:
        stored = tuple(-(-n // f) for n, f in zip(spec.shape, spec.factors[level.level], strict=True))
        z, y, x = level.stride
        values = image.read(Box.of_shape(stored), level.level)
        whole = (values if channels else values[None])[:, ::z, ::y, ::x]
        assert whole.shape[1:] == level.shape
        for box in (Box.of_shape(level.shape), Box((1, 3, 2), (3, 9, level.shape[2]))):
            np.testing.assert_array_equal(read_level(image, level, box), whole[(slice(None), *box.slices)])
