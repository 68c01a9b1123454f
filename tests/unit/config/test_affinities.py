"""A configuration with `model.output: affinities`: what does not go with it is refused with what to do."""

from typing import Any

import pytest

from unet.config.root import ConfigError, load_config
from unet.config.unused_keys import unused_keys

TRAIN = {"raw": "a.tif", "labels": "b.tif"}
BASE: dict[str, Any] = {
    "volumes": {"train": TRAIN},
    "model": {"output": "affinities", "dimensions": 3, "depth": 2},
    "train": {"tile": [20, 20, 20]},
    "segment": {"method": "watershed"},
}
IN_SECTION = {"output": "affinities", "depth": 2, "offsets": [[0, 1, 0], [0, 0, 1]]}
DESCRIBED = {"affinities": {"shape_descriptors": {"weight": 0.5}}}
INTERIOR = {"train": {**TRAIN, "label_kind": "interior"}}
CLASSES = {"train": {**TRAIN, "label_kind": "classes", "class_values": {"membrane": 0, "cell": 1}}}


def changed(changes: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return BASE | {key: {**BASE.get(key, {}), **value} for key, value in changes.items()}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"model": {**IN_SECTION, "dimensions": 2}, "train": {"tile": 44}, "volumes": INTERIOR},
        {"model": {"dimensions": 2}, "train": {"tile": 44}, "volumes": INTERIOR},  # auto: within the section
        {"model": {"offsets": [[16, 0, 0], [0, 8, 0]], "offset_unit": "nm"}},
        {"train": {"affinities": {"erode_labels": 0, "class_balance": False, "border_weight": True}}},
        {"train": {"affinities": {"shape_descriptors": {}}}},
        {"model": {"checkpoint": "m.pt"}, "train": {"volumes": []}},
    ],
)
def test_what_goes_together_is_taken(changes: dict[str, Any]) -> None:
    assert load_config(changed(changes)).model.output == "affinities"


def test_the_linkage_is_that_of_affinities_unless_it_is_given() -> None:
    def methods(agglomerate: dict[str, Any], output: str = "affinities") -> str:
        segment = {"segment": {"agglomerate": agglomerate}, "model": {"output": output}}
        return load_config(changed(segment)).segment.agglomerate.method

    assert methods({}) == methods({"threshold": 0.3}) == "average_linkage"
    assert methods({"method": "mutex_watershed"}) == "mutex_watershed"
    assert methods({}, "classes") == "mean"
    assert load_config(changed({"segment": {"agglomerate": {"threshold": 0.3}}})).segment.agglomerate.threshold == 0.3
    with pytest.raises(ConfigError, match=r"agglomerate.method is mean, which does not work with .* affinities"):
        methods({"method": "mean"})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"volumes": CLASSES}, r"learnt from instances, but volumes.train.label_kind is classes: give labels with one"),
        ({"volumes": INTERIOR}, r"label_kind is interior, whose objects are those of single sections"),
        (
            {"segment": {"method": "components"}},
            r"segment.method is components, .* set segment.method: watershed",
        ),
        ({"segment": {"foreground": "interior"}}, r"segment.foreground is interior, but affinities have no classes"),
        (
            {
                **{"segment": {"threshold": "auto"}, "predict": {"volumes": ["train"]}},
                "evaluate": {"threshold_volumes": ["train"]},
            },
            r"segment.threshold is auto, .* give a number",
        ),
        ({"predict": {"test_time_augmentation": "rotations"}}, r"test_time_augmentation is rotations, which interp"),
        ({"model": {"dimensions": 2, "offsets": [[1, 0, 0]]}}, r"offset \[1.0, 0.0, 0.0\] leads to another section"),
        ({"model": {"offsets": [[0, -1, 0]]}}, r"first number that is not 0 has to be positive"),
        ({"model": {"output": "classes"}, "train": {"affinities": {"erode_labels": 2}}}, r"no effect with .*classes"),
        ({"model": {"output": "classes", "offsets": [[0, 0, 1]]}}, r"offsets and offset_unit have no effect"),
        (
            {"model": {"architecture": "fcn8s", "depth": 3}, "train": {**DESCRIBED, "tile": [36, 36, 36]}},
            r"shape_descriptors needs model.architecture: unet, but it is fcn8s",
        ),
        (
            {"model": {"offsets": [[0, 1, 0]]}, "train": DESCRIBED, "volumes": INTERIOR},
            r"describes objects in 3-D, but volumes.train.label_kind is interior",
        ),
        ({"train": {"affinities": {"class_balance": False, "smallest_share": 0.1}}}, r"smallest_share is 0.1, but has"),
    ],
)
def test_what_does_not_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(changed(changes))


def test_weights_of_classes_without_effect_are_named() -> None:
    given = {"class_balance": True, "separation_border": 2, "w0": 10.0}
    told = unused_keys(load_config(changed({"weights": given})))
    assert [line.split()[0] for line in told] == ["weights.class_balance", "weights.separation_border", "weights.w0"]
    assert "train.affinities.border_weight" in told[2]
    weighted = {"train": {"affinities": {"border_weight": True}}, "weights": {"w0": 10.0, "sigma": 3.0}}
    assert unused_keys(load_config(changed(weighted))) == []


CHOOSING: dict[str, Any] = {"predict": {"volumes": ["train"]}, "evaluate": {"threshold_volumes": ["train"]}}


def deciding(**segment: Any) -> dict[str, Any]:
    """A configuration whose decoder is chosen on the training volume."""
    return changed({"segment": {"decoder": "auto", **segment}, **CHOOSING})


def test_a_chosen_decoder_has_the_settings_of_its_candidate() -> None:
    segment = load_config(deciding(candidates={"methods": ["mutex_watershed"], "max_offset_px": [3]})).segment
    assert segment.agglomerate.method == "average_linkage"
    decoder = segment.candidates.decoders(affinities=True)[-1]
    decoded = segment.decoded_by(segment.candidates.settings_of(decoder))
    assert (decoded.max_offset_px, decoded.agglomerate.method) == (3, "mutex_watershed")
    assert decoded.watershed == segment.candidates.fragments[-1].watershed
    assert (decoded.agglomerate.threshold, decoded.agglomerate.join_fragments_below) == (0.95, 500)


def test_the_default_candidates_are_those_of_what_the_network_gives() -> None:
    of = load_config(deciding()).segment.candidates
    assert {one.method for one in of.decoders(affinities=True)} == {"average_linkage", "mutex_watershed"}
    assert {(one.method, one.max_offset_px) for one in of.decoders(affinities=False)} == {("mean", None)}


@pytest.mark.parametrize(
    ("segment", "message"),
    [
        ({"threshold": 0.4}, r"segment: threshold is 0.4, but decoder: auto chooses it: list it in candidates"),
        ({"agglomerate": {"threshold": 0.4}}, r"agglomerate.threshold is 0.4, but decoder: auto chooses it"),
        ({"max_offset_px": 3}, r"max_offset_px is 3, but decoder: auto chooses it"),
        ({"agglomerate": {"method": "none"}}, r"chooses agglomerate.method, which is none"),
        ({"method": "components"}, r"decoder: auto needs method: watershed"),
        ({"decoder": "fixed", "candidates": {"methods": ["mean"]}}, r"no effect with decoder: fixed"),
        ({"candidates": {"methods": ["mean"]}}, r"candidates.methods lists mean, .* take some of average_linkage"),
        ({"candidates": {"thresholds": [0.4, 0.2]}}, r"list thresholds in increasing order"),
        ({"candidates": {"join_fragments_below": [5, 5]}}, r"join_fragments_below lists a value twice"),
    ],
)
def test_a_decoder_that_is_both_given_and_chosen_is_refused(segment: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(deciding(**segment))


def test_a_decoder_is_chosen_on_some_volume() -> None:
    with pytest.raises(ConfigError, match=r"segment.decoder: auto needs evaluate.threshold_volumes"):
        load_config(changed({"segment": {"decoder": "auto"}}))
