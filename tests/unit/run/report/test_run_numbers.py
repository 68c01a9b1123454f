"""The numbers of a run, from its receipts."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unet.config.root import Config
from unet.run.report.next_steps import Sweep
from unet.run.report.run_numbers import Decoding, decoding, foreground_share, object_shares, scored_volumes
from unet.storage.files import write_json


def config_of(**sections: Any) -> Config:
    """A configuration of two volumes with labels; thresholds are chosen on the first one."""
    volume = {"raw": "raw.tif", "labels": "labels.tif", "label_kind": "instances"}
    given = {"evaluate": {"threshold_volumes": ["train"]}, **sections}
    return Config(volumes={"train": volume, "test": volume | {"raw": "test.tif"}}, **given)


def test_settings_that_are_given_are_those_in_force(tmp_path: Path) -> None:
    write_json(tmp_path / "choose_threshold" / "all.json", {"best": {"threshold": 0.9}, "scores": []})  # an older one
    config = config_of(segment={"threshold": 0.3})
    assert decoding(tmp_path, config) == Decoding(config.segment, 0.3, None, [], {})
    watershed = config_of(segment={"method": "watershed", "agglomerate": {"threshold": 0.2}})
    assert decoding(tmp_path, watershed).agglomeration_threshold == 0.2


def test_thresholds_that_were_chosen_come_with_all_that_were_tried(tmp_path: Path) -> None:
    rows = [{"threshold": t, "v_rand": v_rand, "v_info": 1.0} for t, v_rand in ((0.3, 0.9), (0.4, 1.0), (0.5, 0.9))]
    write_json(tmp_path / "choose_threshold" / "all.json", {"best": rows[1], "scores": rows})
    best = {"threshold": 0.6, "voi": 1.5, "curve": [1.5, 1.5]}
    write_json(tmp_path / "choose_agglomeration_threshold" / "all.json", {"best": best, "thresholds": [0.5, 0.6]})
    swept = [{"threshold": t, "voi_split": 1.0, "voi_merge": 0.5} for t in (0.5, 0.6)]
    write_json(tmp_path / "agglomeration_threshold_sweep" / "train.json", {"voxels": 7, "scores": swept})
    segment = {"method": "watershed", "threshold": "auto", "agglomerate": {"threshold": "auto"}}
    found = decoding(tmp_path, config_of(segment=segment))
    assert (found.threshold, found.agglomeration_threshold) == (0.4, 0.6)
    assert found.agglomeration == {"train": swept}
    assert found.sweeps == [
        Sweep("segment.threshold", "V_rand", [(0.3, 0.9), (0.4, 1.0), (0.5, 0.9)], 0.4),
        Sweep("segment.agglomerate.threshold", "VOI", [(0.5, 1.5), (0.6, 1.5)], 0.6),
    ]


def test_settings_that_were_chosen_together_are_those_in_force(tmp_path: Path) -> None:
    config = config_of(segment={"method": "watershed", "decoder": "auto"})
    candidates = config.segment.candidates
    decoder = candidates.decoders(affinities=False)[3]
    settings = candidates.settings_of(decoder)
    thresholds = candidates.thresholds
    best = {"threshold": decoder.threshold, "curve": [1.0] * len(thresholds)}
    chosen = {"settings": settings, "thresholds": thresholds, "candidates": [best], "best": best}
    write_json(tmp_path / "choose_decoder" / "all.json", chosen)
    found = decoding(tmp_path, config)
    assert (found.threshold, found.agglomeration_threshold) == (0.3, pytest.approx(0.2))
    assert found.segment == config.segment.decoded_by(settings)
    assert found.sweeps[0].points == list(zip(thresholds, best["curve"], strict=True))


def test_volumes_that_were_not_learnt_come_first_with_the_kind_of_their_objects() -> None:
    scores: dict[str, dict[str, Any]] = {"train": {}, "test": {}}
    labels = {"test": {"class_voxels": {"membrane": 90, "interior": 10}}}
    found = scored_volumes(scores, config_of(), labels)
    assert [(one.name, one.learnt, one.kind) for one in found] == [
        ("test", False, "separate"),
        ("train", True, "sections"),
    ]
    given = config_of(model={"checkpoint": "model.pt"})
    assert not any(one.learnt for one in scored_volumes(scores, given, {}))
    assert {one.kind for one in scored_volumes(scores, config_of(segment={"connectivity": "volume"}), {})} == {"volume"}


def test_the_foreground_is_the_class_that_makes_objects() -> None:
    counts = {"class_voxels": {"membrane": 2, "interior": 3, "rest": 5}}
    assert foreground_share(counts, config_of(segment={"foreground": "interior"})) == 0.3
    assert foreground_share(counts, config_of()) == 0.5
    assert foreground_share({}, config_of()) is None
    assert foreground_share({"class_voxels": {"membrane": 0, "interior": 0}}, config_of()) is None
    assert foreground_share({"class_voxels": {"membrane": 1}}, config_of(segment={"foreground": "interior"})) is None


def test_shares_of_no_object_are_nothing() -> None:
    assert object_shares(np.zeros(0, np.int64)) == (0.0, 0.0)
    assert object_shares(np.array([50, 49, 1])) == (0.5, 2 / 3)
