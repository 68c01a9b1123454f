"""The learning curve as JSON lines and as TensorBoard events."""

import json
import os
import sys

import pytest

from unet.training.learning_curve import LearningCurve


def test_lines_are_appended_and_those_after_a_resume_dropped(tmp_path):
    path = tmp_path / "deep" / "training.jsonl"
    curve = LearningCurve(path)
    curve.truncate_after(0)
    for step in (1, 2, 3):
        curve.append({"step": step, "loss": 1 / step})
    with path.open("a") as log:
        log.write('{"step": 4, "lo')
    LearningCurve(path).truncate_after(2)
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2]


def test_a_kill_while_the_curve_is_continued_loses_nothing(tmp_path, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    path = tmp_path / "training.jsonl"
    curve = LearningCurve(path)
    curve.truncate_after(0)
    for step in (1, 2, 3):
        curve.append({"step": step})
    before = path.read_text()
    monkeypatch.setattr(os, "fsync", killed)
    with pytest.raises(KeyboardInterrupt):
        LearningCurve(path).truncate_after(1)
    assert path.read_text() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_line_is_on_disk_when_it_is_added(tmp_path, monkeypatch):
    path, synchronised = tmp_path / "training.jsonl", []
    curve = LearningCurve(path)
    curve.truncate_after(0)
    monkeypatch.setattr(os, "fsync", lambda descriptor: synchronised.append(path.read_bytes()))
    curve.append({"step": 1})
    assert synchronised == [b'{"step": 1}\n']


def test_tensorboard_shows_every_value_and_forgets_what_is_computed_again(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    for start, losses in ((0, [1.0, 2.0, 3.0]), (1, [20.0])):
        curve = LearningCurve(tmp_path / "training.jsonl", tmp_path / "events")
        curve.truncate_after(start)
        for step, loss in enumerate(losses, start=start + 1):
            curve.append({"step": step, "loss": loss, "validation_score": 0.5})
    events = accumulator.EventAccumulator(str(tmp_path / "events")).Reload()
    assert sorted(events.Tags()["scalars"]) == ["loss", "validation_score"]
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(1, 1.0), (2, 20.0)]


def test_without_tensorboard_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ValueError, match=r"needs tensorboard, of the extra tensorboard: pip install"):
        LearningCurve(tmp_path / "training.jsonl", tmp_path / "events")
