"""Notes that receipts do not hold: they lie beside the receipts, but those of a dry run leave nothing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from unet.volumes.integrity import Notes

if TYPE_CHECKING:
    from pathlib import Path


def test_a_note_is_found_by_whoever_looks_beside_the_receipt(tmp_path: Path) -> None:
    receipt, written = tmp_path / "survey" / "train.json", Notes()
    assert Notes().of(receipt) == []
    written.write(receipt, "the labels have changed")
    (note,) = written.of(receipt)
    assert Notes().of(receipt) == [note]
    assert json.loads(note.read_text())["problem"] == "the labels have changed"
    before = note.read_bytes()
    written.write(receipt, "the labels have changed")
    assert note.read_bytes() != before, "the same content would be the same input"


def test_notes_of_a_dry_run_are_inputs_until_it_ends(tmp_path: Path) -> None:
    receipts, notes = [tmp_path / rule / "0-of-1.json" for rule in ("ingest", "predict")], Notes(dry_run=True)
    for receipt in receipts:
        notes.write(receipt, "is missing")
    found = [note for receipt in receipts for note in notes.of(receipt)]
    assert len({note for note in found if note.exists()}) == 2
    assert not list(tmp_path.iterdir())
    del notes
    assert not any(note.exists() for note in found)
