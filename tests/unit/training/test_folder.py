"""A finished training is found again, whole or not at all, and what was published is no way to harm it."""

import pytest

from unet.storage.digests import bytes_digest
from unet.training.folder import TrainingFolder, missing_copies, setting_differences


@pytest.fixture
def kept(tmp_path) -> TrainingFolder:
    """A finished training."""
    folder = TrainingFolder(tmp_path / "model" / "a1")
    folder.write_settings({"train": {"steps": 10}, "code": "x"})
    folder.model.write_bytes(b"weights")
    folder.curve.write_text('{"step": 10}\n')
    folder.write_receipt({"digest": bytes_digest(b"weights"), "steps": 10})
    return folder


def test_what_was_finished_is_found(kept):
    assert TrainingFolder(kept.path).valid_receipt() == {"digest": bytes_digest(b"weights"), "steps": 10}
    assert kept.settings == {"train": {"steps": 10}, "code": "x"}


@pytest.mark.parametrize("gone", ["model.pt", "training.jsonl", "receipt.json"])
def test_a_training_with_a_file_missing_is_not_finished(kept, gone):
    (kept.path / gone).unlink()
    assert kept.valid_receipt() is None


def test_another_model_in_its_place_is_not_taken_for_it(kept):
    kept.model.write_bytes(b"weight!")
    assert kept.valid_receipt() is None


def test_writing_into_what_was_published_leaves_the_kept_one(kept, tmp_path):
    model, curve = tmp_path / "model" / "model.pt", tmp_path / "model" / "training.jsonl"
    kept.publish(model, curve)
    assert (model.read_bytes(), curve.read_text()) == (b"weights", '{"step": 10}\n')
    for path in (model, curve):
        with path.open("r+b") as file:
            file.write(b"other")
    assert kept.valid_receipt() is not None


def test_why_an_attempt_ended_is_known_until_one_succeeds(kept):
    assert kept.stop_reason() is None
    kept.write_stop_reason("diverged")
    assert TrainingFolder(kept.path).stop_reason() == "diverged"
    kept.write_receipt({"digest": bytes_digest(b"weights")})
    assert kept.stop_reason() is None


def test_the_other_trainings_are_listed_with_what_they_differ_in(kept):
    assert kept.siblings() == []
    other = TrainingFolder(kept.path.with_name("b2"))
    other.write_settings({"train": {"steps": 20}, "code": "x"})
    (kept.path.parent / "model.onnx").touch()
    assert kept.siblings() == [other]
    assert other.size_bytes() == len((other.path / "settings.json").read_bytes())
    assert setting_differences(kept.settings, other.settings) == ["train.steps: 20"]
    assert setting_differences({"a": {"b": 1, "c": None}}, {"a": {"b": 1}, "d": 2}) == ["d: 2"]


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_a_lost_copy_is_noticed_where_a_training_has_ended(kept, tmp_path, lost):
    copies = [kept.path.parent / "model.pt", kept.path.parent / "training.jsonl", tmp_path / "model.json"]
    for path in copies:
        path.touch()
    kept.write_receipt({"digest": bytes_digest(b"weights")})
    assert missing_copies(*copies) is None
    copies[lost].unlink()
    assert missing_copies(*copies).startswith(f"{copies[lost]} is missing")
    (kept.path / "receipt.json").unlink()
    assert missing_copies(*copies) is None
