"""Receipts and journals: what is recorded survives a kill, what is stale or torn does not count."""

import os
from pathlib import Path

import pytest

from unet.geometry import Box
from unet.receipts import (
    BlockRecord,
    Journal,
    add_figures,
    content_digest,
    fingerprint,
    read_json,
    summarise,
    write_atomically,
    write_json,
)

BOXES = [Box((0, 0, x), (1, 4, x + 4)) for x in (0, 4, 8)]
NOW = dict.fromkeys(BOXES, "now")


def record(box: Box, made_from: str = "now", digest: str | None = None) -> BlockRecord:
    """A record whose digest is the box itself, unless told."""
    return BlockRecord(box, made_from, digest or str(box), {"voxels_of_class": [1, 2]})


def journal_of(path: Path, *records: BlockRecord) -> Journal:
    """A journal with these lines."""
    journal = Journal(path)
    for one in records:
        journal.add(one)
    return journal


def test_finished_blocks_are_those_recorded_with_the_present_fingerprint(tmp_path: Path) -> None:
    journal = journal_of(tmp_path / "0-of-1.jsonl", record(BOXES[0]), record(BOXES[1], "before"))
    assert journal.finished(NOW, str) == {BOXES[0]: record(BOXES[0])}


def test_a_block_whose_files_have_changed_or_gone_is_not_finished(tmp_path: Path) -> None:
    journal = journal_of(tmp_path / "0-of-1.jsonl", *map(record, BOXES))
    on_disk = {BOXES[0]: str(BOXES[0]), BOXES[1]: "something else", BOXES[2]: None}
    assert list(journal.finished(NOW, on_disk.get)) == BOXES[:1]


@pytest.mark.parametrize("kept", [0, 1, 20, -1], ids=["nothing", "a brace", "some", "all but the line's end"])
def test_a_torn_last_line_is_ignored_and_the_next_not_glued_to_it(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "0-of-1.jsonl"
    journal_of(path, record(BOXES[0]))
    torn = (record(BOXES[1]).to_line().encode() + b"\n")[:kept]
    path.write_bytes(path.read_bytes() + torn)
    journal = Journal(path)
    journal.add(record(BOXES[2]))
    whole = {BOXES[0], BOXES[2]} | ({BOXES[1]} if kept == -1 else set())
    assert set(journal.finished(NOW, str)) == whole


@pytest.mark.parametrize("line", ["", "null", "[]", '{"box": "0:1"}', "\x00\x00", "\xff"])
def test_lines_that_are_no_record_do_not_count(tmp_path: Path, line: str) -> None:
    path = tmp_path / "0-of-1.jsonl"
    path.write_bytes(line.encode("latin-1") + b"\n" + record(BOXES[0]).to_line().encode() + b"\n")
    assert set(Journal(path).finished(NOW, str)) == {BOXES[0]}


def test_journals_of_another_sharding_are_found(tmp_path: Path) -> None:
    journal_of(tmp_path / "0-of-2.jsonl", record(BOXES[0]), record(BOXES[1]))
    journal_of(tmp_path / "1-of-2.jsonl", record(BOXES[2]))
    assert set(Journal.beside(tmp_path / "0-of-1.json").finished(NOW, str)) == set(BOXES)
    assert not Journal.beside(tmp_path / "other" / "0-of-1.json").finished(NOW, str)


def test_the_journal_written_last_has_the_last_word(tmp_path: Path) -> None:
    for name, digest, age in (("0-of-2", "new", 0), ("1-of-3", "old", 100)):
        journal_of(tmp_path / f"{name}.jsonl", record(BOXES[0], digest=digest))
        written = (tmp_path / f"{name}.jsonl").stat().st_mtime - age
        os.utime(tmp_path / f"{name}.jsonl", (written, written))
    assert Journal(tmp_path / "0-of-2.jsonl").recorded(NOW)[BOXES[0]].digest == "new"


def test_a_record_and_its_line_are_the_same() -> None:
    one = record(BOXES[2])
    assert BlockRecord.from_line(one.to_line()) == one
    assert "\n" not in one.to_line()


def test_the_fingerprint_depends_on_every_value_and_not_on_the_order() -> None:
    base = {"model": "m", "tile": [1, 188, 188], "options": {"a": 1, "b": None}}
    assert fingerprint(**base) == fingerprint(**dict(reversed(base.items())))
    changed = [{**base, "model": "n"}, {**base, "tile": [1, 188, 204]}, {**base, "options": {"a": 1}}, {"model": "m"}]
    assert len({fingerprint(**base), *(fingerprint(**one) for one in changed)}) == 5


def test_a_summary_adds_figures_and_does_not_depend_on_the_order() -> None:
    records = [record(box) for box in BOXES]
    found = summarise(records)
    assert found == summarise(reversed(records))
    assert (found["blocks"], found["voxels"], found["voxels_of_class"]) == (3, 48, [3, 6])
    assert summarise(records[:2])["digest"] != found["digest"]
    assert summarise([record(BOXES[0], digest="x"), *records[1:]])["digest"] != found["digest"]


def test_add_figures_takes_missing_counts_as_zero_and_changes_neither() -> None:
    one, other = {"a": {"7": 1}, "n": 2}, {"a": {"7": 2, "9": 1}, "m": [1]}
    assert add_figures(one, other) == {"a": {"7": 3, "9": 1}, "n": 2, "m": [1]}
    assert (one, other) == ({"a": {"7": 1}, "n": 2}, {"a": {"7": 2, "9": 1}, "m": [1]})


def test_the_content_digest_follows_what_was_made_and_not_where_or_when(tmp_path: Path) -> None:
    for name, digest in (("a", "1"), ("b", "2"), ("a-again", "1")):
        write_json(tmp_path / f"{name}.json", {"digest": digest, "run": name})
    a, b, again = (tmp_path / f"{name}.json" for name in ("a", "b", "a-again"))
    assert content_digest([a, b]) == content_digest([again, b])
    assert len({content_digest([a, b]), content_digest([b, a]), content_digest([a]), content_digest([])}) == 4


def test_the_content_digest_does_not_depend_on_the_shards(tmp_path: Path) -> None:
    records = [record(box, digest=fingerprint(box=str(box))) for box in BOXES]
    for name, share in (("a/0-of-1", records), ("b/0-of-2", records[:1]), ("b/1-of-2", records[1:])):
        write_json(tmp_path / f"{name}.json", summarise(share))
    whole, parts = ([*sorted((tmp_path / folder).glob("*.json"))] for folder in "ab")
    assert content_digest(whole) == content_digest(parts) == content_digest(reversed(parts))
    assert content_digest(whole) != content_digest(parts[:1])


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new" / "receipt.json"
    write_json(path, {"a": 1})

    def no_space(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, b"half")
    assert read_json(path) == {"a": 1}
