"""Markers of stale receipts lie beside the receipts; markers of a dry run leave no file behind."""

import json
from dataclasses import asdict, replace
from pathlib import Path

from tests.unit.volumes.test_volume import LAYOUT
from unet.jobs.journal import file_sizes
from unet.storage.files import write_json
from unet.volumes.integrity import StaleMarkers, blocks_of_receipt, invalid_receipts
from unet.volumes.volume import Volume


def test_a_note_is_found_by_whoever_looks_beside_the_receipt(tmp_path: Path) -> None:
    receipt, written = tmp_path / "survey" / "train.json", StaleMarkers()
    assert StaleMarkers().of(receipt) == []
    written.write(receipt, "the labels have changed")
    (marker,) = written.of(receipt)
    assert StaleMarkers().of(receipt) == [marker]
    assert json.loads(marker.read_text())["problem"] == "the labels have changed"
    before = marker.read_bytes()
    written.write(receipt, "the labels have changed")
    assert marker.read_bytes() != before, "the same content would be the same input"


def test_markers_of_a_dry_run_are_inputs_until_it_ends(tmp_path: Path) -> None:
    receipts, markers = [tmp_path / rule / "0-of-1.json" for rule in ("ingest", "predict")], StaleMarkers(dry_run=True)
    for receipt in receipts:
        markers.write(receipt, "is missing")
    found = [marker for receipt in receipts for marker in markers.of(receipt)]
    assert len({marker for marker in found if marker.exists()}) == 2
    assert not list(tmp_path.iterdir())
    del markers
    assert not any(marker.exists() for marker in found)


def test_a_file_that_a_receipt_names_is_missed_or_found_cut_short(tmp_path: Path) -> None:
    write_json(tmp_path / "receipts/survey/train.json", {"layout": asdict(LAYOUT)})
    receipt = tmp_path / "receipts/merge/train/segmentation.json"
    table = tmp_path / "volumes/train/segmentation-tables/merge/lut.npy"
    table.parent.mkdir(parents=True)
    table.write_bytes(b"12345")
    write_json(receipt, {"files": file_sizes([table], receipt)})
    assert list(invalid_receipts(tmp_path)) == []
    table.write_bytes(b"123")
    assert list(invalid_receipts(tmp_path)) == [(receipt, f"{table} holds 3 bytes, but 5 were written")]
    table.unlink()
    assert list(invalid_receipts(tmp_path)) == [(receipt, f"{table} is not there")]


def test_a_table_of_a_block_is_missed(tmp_path: Path) -> None:
    write_json(tmp_path / "receipts/survey/train.json", {"layout": asdict(LAYOUT)})
    volume, receipt = Volume(tmp_path / "volumes/train", LAYOUT), tmp_path / "receipts/region_graph/train/0-of-1.json"
    boxes, tables = volume.blocks("0-of-1"), volume.edge_tables("segmentation")
    write_json(receipt, {"stores": [tables.name], "bytes": 5 * len(boxes)})
    place = f"{volume.folder}/{tables.name}"
    assert list(invalid_receipts(tmp_path)) == [(receipt, f"{place}: block {boxes[0]} is missing")]
    assert not volume.folder.exists(), "looking makes nothing"
    tables.path.mkdir(parents=True)
    for box in boxes:
        tables.of(box).write_bytes(b"12345")
    assert list(invalid_receipts(tmp_path)) == []
    tables.of(boxes[-1]).unlink()
    assert list(invalid_receipts(tmp_path)) == [(receipt, f"{place}: block {boxes[-1]} is missing")]


def test_layers_that_are_ingested_together_are_looked_for_together(tmp_path: Path) -> None:
    """Three layers of four blocks on two jobs of `ingest`: one and two layers, not six blocks each."""
    layout = replace(LAYOUT, shape=(3, 30, 20), chunk=(1, 5, 5), block=(1, 15, 10), decoded=(1, 30, 20))
    volume = Volume(tmp_path, layout)
    taken = {rule: [len(blocks_of_receipt(volume, Path(f"receipts/{rule}/train/{k}-of-2.json"))) for k in (0, 1)]
             for rule in ("ingest", "predict")}  # fmt: skip
    assert taken == {"ingest": [4, 8], "predict": [6, 6]}
    assert blocks_of_receipt(volume, Path("receipts/ingest/train/0-of-2.json")) == volume.blocks("0-of-2", 4)
