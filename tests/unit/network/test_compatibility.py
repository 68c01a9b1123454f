"""A model file that does not fit is refused with both values."""

import pytest

from unet.config.model import ModelConfig
from unet.geometry.tiling import tile_geometry
from unet.network.compatibility import (
    IncompatibleModelError,
    normalisation_of_model,
    require_classes,
    require_compatible_model,
    require_output,
    require_same_channels,
    require_same_voxel_size,
    require_tile_fits,
)

HEADER = {"model": {"depth": 4, "dimensions": 2}, "channels": 1, "classes": ["membrane", "interior"]}


def test_voxels_within_the_tolerance_fit():
    require_same_voxel_size((50, 4, 4), "m", {"a": (50, 4.39, 3.61)}, 2, 0.1)
    require_same_voxel_size(None, "m", {"a": (1, 1, 1)}, 3, 0.0)


def test_a_2d_network_does_not_mind_the_thickness_of_sections():
    require_same_voxel_size((50, 4, 4), "m", {"a": (30, 4, 4)}, 2, 0.1)
    with pytest.raises(
        IncompatibleModelError, match=r"'a' has voxels of \[30, 4, 4\].*m was trained on \[50, 4, 4\].*10%"
    ):
        require_same_voxel_size((50, 4, 4), "m", {"a": (30, 4, 4)}, 3, 0.1)


def test_the_volume_that_differs_is_named():
    with pytest.raises(IncompatibleModelError, match=r"'b' has voxels of \[50, 4, 8\] nm"):
        require_same_voxel_size((50, 4, 4), "m", {"a": (50, 4, 4), "b": (50, 4, 8)}, 2, 0.1)


@pytest.mark.parametrize(
    ("asked", "channels", "message"),
    [
        ({"depth": 5}, {}, r"model.pt: model.depth of the model file is 4, but this run has 5"),
        ({}, {"v": 3}, r"input channels \(volume 'v'\) of the model file is 1, but this run has 3"),
    ],
)
def test_what_the_configuration_says_and_the_model_is_not_is_refused(asked, channels, message):
    with pytest.raises(IncompatibleModelError, match=message):
        require_compatible_model(HEADER, "model.pt", asked, channels)


@pytest.mark.parametrize(
    ("classes", "foreground", "message"),
    [
        (
            {"v": ["a", "b"]},
            [],
            r"volume 'v' has classes \['a', 'b'\], but m.pt was trained on \['membrane', 'int.*kind",
        ),
        ({"v": ["interior", "membrane"]}, [], r"'v' has classes \['interior', 'membrane'\]"),
        ({}, ["interior", "glia"], r"segment.foreground: 'glia' is not one of \['interior'\], the classes of m.pt"),
        ({}, ["membrane"], r"'membrane' is not one of \['interior'\]"),
    ],
)
def test_classes_that_the_model_does_not_know_are_refused_with_both(classes, foreground, message):
    with pytest.raises(IncompatibleModelError, match=message):
        require_classes(HEADER, "m.pt", classes, foreground)


AFFINITIES = {
    **{"model": ModelConfig(output="affinities", dimensions=3).model_dump(), "channels": 1},
    **{"classes": ["z+1", "y+1", "x+3"], "voxel_size_nm": [40.0, 8.0, 8.0]},
}


def test_offsets_are_compared_in_voxels():
    asked = {"output": "affinities", "offset_unit": "nm", "offsets": [(40, 0, 0), (0, 8, 0), (0, 0, 24)]}
    require_compatible_model(AFFINITIES, "m.pt", asked, {})
    require_compatible_model(AFFINITIES, "m.pt", {"output": "affinities"}, {})
    with pytest.raises(IncompatibleModelError, match=r"offsets in voxels of the model file is .*'x\+3'.*'x\+2'"):
        require_compatible_model(AFFINITIES, "m.pt", {**asked, "offsets": [(40, 0, 0), (0, 8, 0), (0, 0, 16)]}, {})


@pytest.mark.parametrize(("header", "output"), [(HEADER, "affinities"), (AFFINITIES, "classes")])
def test_a_model_that_predicts_something_else_is_refused(header, output):
    found = {"classes": "affinities", "affinities": "classes"}[output]
    with pytest.raises(IncompatibleModelError, match=f"m.pt predicts {found}, but model.output is {output}: set"):
        require_output(header, "m.pt", output)
    require_output(header, "m.pt", found)


PAPER = ModelConfig()


def test_a_tile_that_predicts_more_than_the_volume_is_refused_with_the_largest_that_fits():
    with pytest.raises(
        IncompatibleModelError, match=r"572, 572\] predicts \[1, 388, 388\].*'v' has only \[9, 96, 400\]: .* "
    ) as refused:
        require_tile_fits("v", (9, 96, 400), PAPER, 572)
    assert "set train.tile to [1, 268, 572] at most" in str(refused.value)
    assert tile_geometry(PAPER, (1, 268, 572)).output == (1, 84, 388)  # the next is 284, with an output of 100
    deep = ModelConfig(dimensions=3, depth=2)
    with pytest.raises(
        IncompatibleModelError, match=r"predicts \[4, 12, 12\] .* set train.tile to \[18, 28, 28\] at most"
    ):
        require_tile_fits("v", (3, 90, 90), deep, (20, 28, 28))


def test_a_tile_that_is_learnt_as_a_whole_has_to_fit_as_a_whole():
    padded = ModelConfig(dimensions=3, depth=4, convolution="same")
    assert require_tile_fits("v", (64, 90, 90), padded, 64, "tile") is None
    with pytest.raises(IncompatibleModelError, match=r"predicts \[64, 64, 64\].*train.tile to \[32, 64, 64\] at most"):
        require_tile_fits("v", (35, 90, 90), padded, 64, "tile")


def test_a_tile_that_sees_mostly_mirror_images_is_a_warning_and_the_papers_on_its_data_is_none():
    assert require_tile_fits("v", (30, 512, 512), PAPER, 572) is None
    assert "at most 46% of what a tile sees are its own voxels" in str(
        require_tile_fits("v", (9, 388, 388), PAPER, 572)
    )


def test_a_volume_of_other_channels_than_those_learnt_from_is_named():
    require_same_channels({"a": 2, "b": 2}, "b")
    with pytest.raises(IncompatibleModelError, match=r"'a' has 3 input channel\(s\), but volume 'b', .* has 2"):
        require_same_channels({"a": 3, "b": 2}, "b")


def test_what_agrees_or_is_not_said_fits():
    require_compatible_model(HEADER, "model.pt", {"depth": 4, "output": "classes"}, {"v": 1})
    require_compatible_model(HEADER, "model.pt", {}, {})
    require_classes(HEADER, "model.pt", {"v": ["membrane", "interior"]}, ["interior"])
    require_classes(HEADER, "model.pt", {})


def test_a_model_brings_the_rule_of_its_normalisation() -> None:
    header = {"normalisation": {"rule": {"percentiles": [1, 99]}}}
    expected = {"ignore_value": "auto", "percentiles": [1.0, 99.0], "mean": None, "std": None}
    assert normalisation_of_model(header, "m.pt", {"percentiles": [1.0, 99.0]}) == expected
    with pytest.raises(IncompatibleModelError, match=r"m.pt: .*ignore_value 'auto', but this run has 0.0; leave"):
        normalisation_of_model(header, "m.pt", {"ignore_value": 0.0})
