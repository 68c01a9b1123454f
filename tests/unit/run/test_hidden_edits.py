"""Inputs that were edited, and whose size and time do not show it."""

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from unet.config.root import Config, load_config
from unet.run.hidden_edits import problem_of_hidden_edits
from unet.run.provenance import NAME, input_fingerprint
from unet.storage.files import write_json


def edit(path: Path) -> None:
    """Change the content of a file, but neither its size nor its time."""
    before = path.stat()
    path.write_bytes(path.read_bytes()[::-1])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """A run that has read a file, a folder of sections and a model, one hour after they were written."""
    (tmp_path / "sections").mkdir()
    for name in ("raw.tif", "sections/1.png", "sections/2.png", "model.pt"):
        (tmp_path / name).write_bytes(name.encode())
    config = load_config(
        {
            "results": str(tmp_path),
            "volumes": {"em": {"raw": str(tmp_path / "raw.tif"), "labels": str(tmp_path / "sections")}},
            "model": {"checkpoint": str(tmp_path / "model.pt")},
            "predict": {"volumes": ["em"]},
        }
    )
    keys = {"volumes.em.raw": "raw.tif", "volumes.em.labels": "sections", "model.checkpoint": "model.pt"}
    for rule in ("survey", "check_model"):
        (tmp_path / f"{rule}-em").touch()
        os.utime(tmp_path / f"{rule}-em", (0, 0))
    # as of a record that was written before the entries of the files changed, as after a copy of all
    inputs = {key: input_fingerprint(tmp_path / name) for key, name in keys.items()}
    write_json(tmp_path / NAME, {"written": _ago(hours=1), "inputs": inputs})
    return config


def _ago(hours: float) -> str:
    return (datetime.now(UTC) - timedelta(hours=hours)).isoformat(timespec="seconds")


def _problem(config: Config, is_known: Callable[[str, str], bool] = lambda rule, volume: True) -> str | None:
    results = Path(config.results)
    return problem_of_hidden_edits(config, results, lambda rule, volume: results / f"{rule}-{volume}", is_known)


def test_copies_of_the_same_content_are_no_edits(config: Config) -> None:
    assert _problem(config) is None


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("raw.tif", ("volumes.em.raw: ", "run `touch ")),
        ("sections/2.png", ("volumes.em.labels: ", "-type f -exec touch {} +`")),
        ("model.pt", ("model.checkpoint: ", "run `touch ")),
    ],
)
def test_an_edit_that_hides_is_told_with_what_shows_it(config: Config, name: str, told: tuple[str, str]) -> None:
    edit(Path(config.results) / name)
    assert [part for part in told if part not in str(_problem(config))] == []


def test_sections_of_the_same_size_and_time_that_are_exchanged_are_told(config: Config) -> None:
    first, second = (Path(config.results) / "sections" / name for name in ("1.png", "2.png"))
    parts = first.read_bytes(), second.read_bytes()
    for path, content in zip((first, second), parts[::-1], strict=True):
        before = path.stat()
        path.write_bytes(content)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert "volumes.em.labels: " in str(_problem(config))


def test_what_is_noticed_or_was_read_since_is_not_told(config: Config) -> None:
    results = Path(config.results)
    edit(results / "raw.tif")
    assert _problem(config, is_known=lambda rule, volume: False) is None
    os.utime(results / "survey-em")
    assert _problem(config) is None


def test_files_whose_entries_are_older_than_the_record_are_not_read(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = Path(config.results) / NAME
    write_json(record, {"written": _ago(hours=-1), "inputs": {"volumes.em.raw": {"digest": "another"}}})
    monkeypatch.setattr("unet.run.hidden_edits.input_fingerprint", None)
    assert _problem(config) is None


def test_without_a_record_nothing_is_told(config: Config) -> None:
    for content in (b"", b"{"):
        (Path(config.results) / NAME).write_bytes(content)
        assert _problem(config) is None
    (Path(config.results) / NAME).unlink()
    assert _problem(config) is None
    no_folder = Path(config.results) / "raw.tif"
    assert problem_of_hidden_edits(config, no_folder, lambda *_: no_folder, lambda *_: True) is None
