"""A model file that does not fit is refused with both values."""

import pytest

from unet.fit import MisfitError, require_fit, require_same_channels, require_same_voxels, rule_of_model

HEADER = {"model": {"depth": 4, "dimensions": 2}, "channels": 1, "classes": ["membrane", "interior"]}


def test_voxels_within_the_tolerance_fit():
    require_same_voxels((50, 4, 4), "m", {"a": (50, 4.39, 3.61)}, 2, 0.1)
    require_same_voxels(None, "m", {"a": (1, 1, 1)}, 3, 0.0)


def test_a_2d_network_does_not_mind_the_thickness_of_sections():
    require_same_voxels((50, 4, 4), "m", {"a": (30, 4, 4)}, 2, 0.1)
    with pytest.raises(MisfitError, match=r"'a' has voxels of \[30, 4, 4\].*m was trained on \[50, 4, 4\].*10%"):
        require_same_voxels((50, 4, 4), "m", {"a": (30, 4, 4)}, 3, 0.1)


def test_the_volume_that_differs_is_named():
    with pytest.raises(MisfitError, match=r"'b' has voxels of \[50, 4, 8\] nm"):
        require_same_voxels((50, 4, 4), "m", {"a": (50, 4, 4), "b": (50, 4, 8)}, 2, 0.1)


@pytest.mark.parametrize(
    ("asked", "channels", "classes", "foreground", "message"),
    [
        ({"depth": 5}, {}, {}, None, r"model.pt: model.depth of the model file is 4, but this run has 5"),
        ({}, {"v": 3}, {}, None, r"input channels \(volume 'v'\) of the model file is 1, but this run has 3"),
        ({}, {}, {"v": ["a", "b"]}, None, r"classes \(volume 'v'\).*\['membrane', 'interior'\].*\['a', 'b'\]"),
        ({}, {}, {}, "glia", r"foreground is 'glia', but the model's classes are \['membrane', 'interior'\]"),
    ],
)
def test_what_the_configuration_says_and_the_model_is_not_is_refused(asked, channels, classes, foreground, message):
    with pytest.raises(MisfitError, match=message):
        require_fit(HEADER, "model.pt", asked, channels, classes, foreground)


def test_a_volume_of_other_channels_than_those_learnt_from_is_named():
    require_same_channels({"a": 2, "b": 2}, "b")
    with pytest.raises(MisfitError, match=r"'a' has 3 input channel\(s\), but volume 'b', .* has 2"):
        require_same_channels({"a": 3, "b": 2}, "b")


def test_what_agrees_or_is_not_said_fits():
    require_fit(HEADER, "model.pt", {"depth": 4}, {"v": 1}, {"v": ["membrane", "interior"]}, "interior")
    require_fit(HEADER, "model.pt", {}, {}, {})


def test_a_model_brings_the_rule_of_its_normalisation() -> None:
    header = {"normalisation": {"rule": {"percentiles": [1, 99]}}}
    expected = {"ignore_value": "auto", "percentiles": [1.0, 99.0], "mean": None, "std": None}
    assert rule_of_model(header, "m.pt", {"percentiles": [1.0, 99.0]}) == expected
    with pytest.raises(MisfitError, match=r"m.pt: .*ignore_value 'auto', but this run has 0.0; leave"):
        rule_of_model(header, "m.pt", {"ignore_value": 0.0})
