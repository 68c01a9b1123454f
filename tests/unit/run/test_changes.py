"""Finished jobs that run again because the user's files have changed."""

import json
import os
from hashlib import sha256
from pathlib import Path

import pytest

from unet.config.root import load_config
from unet.run.changes import (
    InputChanges,
    KnownLayouts,
    hidden_changes,
    remove_unreadable_receipts,
    runs_again,
    show_hidden_changes,
)
from unet.run.inputs import RunInputs
from unet.run.provenance import configuration_text
from unet.storage.files import write_json, write_receipt
from unet.volumes.input_states import survey_input_states
from unet.volumes.integrity import StaleMarkers
from unet.volumes.layout import VolumeLayout

LAYOUT = VolumeLayout((2, 30, 20), "uint8", (50, 4, 4), (0, 0, 0), (1, 10, 10), (2, 10, 10), None, False)


class Run:
    """A run whose volume was surveyed."""

    def __init__(self, folder: Path) -> None:
        self.raw = folder / "raw.tif"
        self.raw.write_bytes(b"grey values")
        volumes = {"train": {"raw": str(self.raw), "labels": str(folder / "labels.tif")}}
        self.config = load_config({"volumes": volumes, "results": str(folder)})
        self.told: list[str] = []
        self.inputs = RunInputs(self.config, str(folder), lambda volume: LAYOUT, StaleMarkers())
        self.survey = Path(self.inputs.receipt("survey", "train"))
        self.survey.parent.mkdir(parents=True)
        input_states = survey_input_states(self.config.volumes["train"], self.config.storage, "code")
        self.survey.write_text(json.dumps({"input_states": input_states, "layout": vars(LAYOUT)}))

    def changes(self, has_record: bool = True, looks: bool = True, code: str = "code") -> InputChanges:
        """Return the changes as a process sees them."""
        return InputChanges(self.inputs, lambda rule: code, lambda path: has_record, self.told.append, looks)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run whose input has not changed."""
    return Run(tmp_path)


def test_nothing_runs_again_where_all_is_the_same(run: Run) -> None:
    assert run.changes().markers("survey", "train") == run.told == []


def test_another_file_is_noted_once_and_told(run: Run) -> None:
    run.raw.write_bytes(b"other grey values")
    changes = run.changes()
    [marker] = changes.markers("survey", "train")
    written = marker.read_bytes()
    assert changes.markers("survey", "train") == [marker]
    assert marker.read_bytes() == written
    assert [f"raw: {run.raw}" in sentence for sentence in run.told] == [True]


def test_other_code_is_a_change(run: Run) -> None:
    assert run.changes(code="other").is_stale("survey", "train")


def test_a_job_trusts_the_process_that_has_started_it(run: Run) -> None:
    run.raw.write_bytes(b"other grey values")
    assert not run.changes(looks=False).is_stale("survey", "train")


def test_without_a_record_the_last_report_tells_the_settings(run: Run) -> None:
    assert run.changes(has_record=False).is_stale("survey", "train"), "there is no report"
    report = Path(run.inputs.results) / "run_config.yaml"
    report.write_text(configuration_text(run.config))
    assert not run.changes(has_record=False).is_stale("survey", "train")
    report.write_text(configuration_text(run.config).replace("min_size: 0", "min_size: 1") + "other: 1\n")
    assert run.changes(has_record=False).is_stale("survey", "train")


def test_a_layout_is_that_of_the_survey_while_it_holds(run: Run) -> None:
    assert KnownLayouts(run.changes(), warns=False).get("train") == LAYOUT


def test_without_a_survey_headers_tell_and_where_these_cannot_be_read_nothing(run: Run) -> None:
    run.survey.unlink()
    assert KnownLayouts(run.changes(), warns=False).get("train") is None
    assert run.told == []
    assert KnownLayouts(run.changes(), warns=True).get("train") is None
    assert "Jobs of train are missing below" in run.told[0]


def test_a_volume_whose_headers_cannot_be_read_has_no_layout_and_is_named(run: Run) -> None:
    run.survey.unlink()
    layouts = KnownLayouts(run.changes(), warns=True)
    assert layouts.get("train") is None
    assert layouts.unreadable == ["train"]
    assert ["Jobs of train are missing below" in sentence for sentence in run.told] == [True]


def test_damage_of_what_nobody_asks_for_is_not_announced(run: Run) -> None:
    receipts = Path(run.inputs.results) / "receipts"
    told = {rule: [runs_again(receipts / rule / "train" / "0-of-1.json", run.inputs, words)
                   for words in (["snakemake"], ["snakemake", "report"], ["snakemake", "meshes"])]
            for rule in ("ingest", "surface_faces", "meshes")}  # fmt: skip
    asked = [False, False, True]
    assert told == {"ingest": [True] * 3, "surface_faces": asked, "meshes": asked}


def test_a_change_that_times_do_not_show_is_found_by_contents(tmp_path: Path) -> None:
    """`merge` was made of one version of `segment`; another one came later, by a clock that had been set back."""
    segment, merge = tmp_path / "receipts/segment/v.json", tmp_path / "receipts/merge/v.json"
    for path in (segment, merge):
        write_json(path, {"rule": path.parent.name})
    recorded = {merge: {str(segment): f"sha256:{sha256(segment.read_bytes()).hexdigest()}", "gone.json": "sha256:0"}}

    def found() -> list[tuple[Path, Path]]:
        return list(hidden_changes(tmp_path, lambda path: recorded.get(path, {})))

    assert found() == []
    write_json(segment, {"rule": "segment", "threshold": 0.3})
    assert found() == [], "it is later, which Snakemake sees"
    os.utime(segment, (1_000_000_000, 1_000_000_000))
    assert found() == [(merge, segment)]
    warnings: list[str] = []
    show_hidden_changes(tmp_path, lambda path: recorded.get(path, {}), warnings.append)
    assert [f"{merge}: {segment} was another one" in line for line in warnings] == [True]
    assert merge.stat().st_mtime_ns < segment.stat().st_mtime_ns
    assert found() == []


def test_receipts_that_are_damaged_are_removed_but_not_by_a_dry_run(tmp_path: Path) -> None:
    whole, cut = tmp_path / "receipts/ingest/v/0-of-1.json", tmp_path / "receipts/survey/v.json"
    write_receipt(whole, {"rule": "ingest"})
    write_receipt(cut, {"rule": "survey"})
    cut.write_bytes(cut.read_bytes()[:-10])
    for dry_run in (True, False):
        [(path, problem)] = remove_unreadable_receipts(tmp_path, dry_run)
        assert path == cut
        assert problem.startswith("is damaged")
        assert cut.exists() == dry_run
    assert whole.exists()
