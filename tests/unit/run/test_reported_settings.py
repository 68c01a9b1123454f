"""Settings that differ from those of the last report, where a command would not notice it."""

from pathlib import Path
from typing import Any

from unet.config.root import Config, load_config
from unet.run.provenance import configuration_text
from unet.run.reported_settings import changed_settings, problem_of_touch, problem_of_triggers


def _config(**sections: Any) -> Config:
    volumes = {"em": {"raw": "raw.tif", "labels": "labels.tif"}}
    return load_config({"volumes": volumes, "train": {"volumes": ["em"]}, "predict": {"volumes": ["em"]}, **sections})


def test_changed_settings_have_both_values_and_moved_results_are_none(tmp_path: Path) -> None:
    assert changed_settings(tmp_path, _config()) == []  # nothing was reported
    (tmp_path / "run_config.yaml").write_text(configuration_text(_config(segment={"threshold": 0.4})))
    assert changed_settings(tmp_path, _config(segment={"threshold": 0.4}, results="elsewhere")) == []
    assert changed_settings(tmp_path, _config()) == ["segment.threshold was 0.4, is 0.5"]


def test_touch_and_fewer_triggers_are_refused_where_settings_have_changed(tmp_path: Path) -> None:
    (tmp_path / "run_config.yaml").write_text(configuration_text(_config()))
    same, other = _config(), _config(segment={"threshold": 0.6}, train={"volumes": ["em"], "steps": 9})
    every = ["mtime", "params", "input", "software-env", "code"]
    assert problem_of_touch(tmp_path, same) is None
    assert problem_of_triggers(["mtime"], tmp_path, same) is None
    assert problem_of_triggers(every, tmp_path, other) is None
    told = "The results are of other settings (train.steps was 20000, is 9; segment.threshold was 0.5, is 0.6), and "
    assert str(problem_of_touch(tmp_path, other)).startswith(f"{told}--touch would mark them as made with these: run")
    said = str(problem_of_triggers(["mtime"], tmp_path, other))
    assert said.startswith(f"{told}--rerun-triggers mtime would leave some as they are: leave out the option")


def test_of_many_changed_settings_some_are_named(tmp_path: Path) -> None:
    (tmp_path / "run_config.yaml").write_text(configuration_text(_config()))
    changed = {"steps": 9, "tile": 316, "batch": 2, "learning_rate": 1, "momentum": 0.5, "clip_norm": 2}
    said = str(problem_of_touch(tmp_path, _config(train={"volumes": ["em"], **changed})))
    assert " and 1 more), and --touch would mark" in said
