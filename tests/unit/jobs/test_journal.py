"""Receipts and journals: what is recorded survives a kill; stale records and lines cut short do not count."""

import json
import os
from pathlib import Path
from random import Random

import pytest

from unet.geometry.box import Box
from unet.jobs import journal as receipts
from unet.jobs.journal import BlockRecord, Journal, add_figures, summarise
from unet.storage.digests import fingerprint, receipts_digest
from unet.storage.files import write_json

BOXES = [Box((0, 0, x), (1, 4, x + 4)) for x in (0, 4, 8)]
NOW = dict.fromkeys(BOXES, "now")


def record(box: Box, input_hash: str = "now", digest: str | None = None) -> BlockRecord:
    """Return a record whose digest is by default its box."""
    return BlockRecord(box, input_hash, digest or str(box), {"voxels_of_class": [1, 2]})


def journal_of(path: Path, *records: BlockRecord) -> Journal:
    """Return a journal with these lines."""
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


def test_a_record_is_on_disk_before_the_next_block_and_the_name_of_a_new_journal_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a power cut a block that was written and lost would be taken for finished, or all of them for not begun."""
    done: list[str] = []
    monkeypatch.setattr(receipts.os, "fsync", lambda descriptor: done.append(f"{os.fstat(descriptor).st_size > 0}"))
    monkeypatch.setattr(receipts, "sync_folder", lambda folder: done.append(folder.name))
    journal_of(tmp_path / "new" / "0-of-1.jsonl", *map(record, BOXES[:2]))
    assert done == ["True", "new", "True"]


def test_each_record_of_a_block_is_newer_than_all_before_it(tmp_path: Path) -> None:
    revisions = [Journal(tmp_path / f"{job}-of-3.jsonl").add(record(BOXES[0])).revision for job in (2, 0, 0, 1)]
    assert revisions == [1, 2, 3, 4]


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


def test_journals_of_another_division_are_found(tmp_path: Path) -> None:
    journal_of(tmp_path / "0-of-2.jsonl", record(BOXES[0]), record(BOXES[1]))
    journal_of(tmp_path / "1-of-2.jsonl", record(BOXES[2]))
    assert set(Journal.of_receipt(tmp_path / "0-of-1.json").finished(NOW, str)) == set(BOXES)
    assert not Journal.of_receipt(tmp_path / "other" / "0-of-1.json").finished(NOW, str)


BLOCK_RANGES = ("0-of-1", "0-of-2", "1-of-2", "0-of-3")


@pytest.mark.parametrize("times", ["as written", "none", "turned round"])
def test_the_newest_record_of_a_block_counts_whatever_the_times_of_the_journals(tmp_path: Path, times: str) -> None:
    """One job from f1; two from f2, killed after the first block; one again, which makes the second block from f2."""
    one, first = Journal(tmp_path / "0-of-1.jsonl"), Journal(tmp_path / "0-of-2.jsonl")
    a, b = BOXES[:2]
    one.add(record(a, "f1", "old-a"))
    one.add(record(b, "f1", "old-b"))
    first.add(record(a, "f2", "new-a"))
    one.add(record(b, "f2", "new-b"))
    for path, second in ((one.path, 1), (first.path, 2)) if times == "turned round" else ():
        os.utime(path, (second, second))
    if times == "none":
        for path in (one.path, first.path):
            os.utime(path, (0, 0))
    on_disk = {a: "new-a", b: "new-b"}
    for journal in (one, first, Journal(tmp_path / "1-of-2.jsonl")):
        assert {box: found.digest for box, found in journal.latest().items()} == on_disk
        assert {box: found.digest for box, found in journal.latest([a]).items()} == {a: "new-a"}
        assert set(journal.finished(dict.fromkeys(BOXES, "f2"), on_disk.get)) == {a, b}
        assert not journal.finished(dict.fromkeys(BOXES, "f1"), on_disk.get)


@pytest.mark.parametrize("seed", range(10))
def test_journals_of_any_history_tell_what_was_written_last(tmp_path: Path, seed: int) -> None:
    """Jobs with several divisions into block ranges write blocks from several inputs; some are killed in a line."""
    random = Random(seed)
    newest: dict[Box, BlockRecord] = {}
    from_each: dict[tuple[str, Box], BlockRecord] = {}
    watching = Journal(tmp_path / "watching.jsonl")
    for job in range(12):
        journal, input_hash = Journal(tmp_path / f"{random.choice(BLOCK_RANGES)}.jsonl"), random.choice(["f1", "f2"])
        journal.recorded(dict.fromkeys(BOXES, input_hash))
        for number in range(random.randrange(4)):
            one = record(random.choice(BOXES), input_hash, f"{job}-{number}")
            journal.add(one)
            newest[one.box] = from_each[input_hash, one.box] = one
        if random.random() < 0.3:
            line = record(random.choice(BOXES), input_hash, "torn").to_line()
            with journal.path.open("a") as file:
                file.write(line[: random.randrange(len(line) - 1)])
        assert watching.latest() == newest
        for name in ("f1", "f2"):
            ours = {box: one for (input_hash, box), one in from_each.items() if input_hash == name}
            assert watching.recorded(dict.fromkeys(BOXES, name)) == ours
            assert watching.count_voxels(name) == sum(box.size for box in ours)


def test_voxels_are_those_of_one_fingerprint_as_the_journals_grow(tmp_path: Path) -> None:
    journal = journal_of(tmp_path / "0-of-2.jsonl", record(BOXES[0], "before"), record(BOXES[1]), record(BOXES[1]))
    journal.add_interruption({"ended": "SIGTERM received", "fingerprint": "now"})
    assert (journal.count_voxels("now"), journal.count_voxels("before"), journal.count_voxels("never")) == (16, 16, 0)
    other = journal_of(tmp_path / "1-of-2.jsonl", record(BOXES[1]), record(BOXES[2]))
    assert (journal.count_voxels("now"), journal.count_voxels("before")) == (32, 16)
    line = record(BOXES[0]).to_line().encode() + b"\n"
    for half in (line[:50], line[50:]):
        assert journal.count_voxels("now") == 32
        with other.path.open("ab") as file:
            file.write(half)
    assert journal.count_voxels("now") == 48


def test_what_is_known_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job parses the lines of its own blocks only, and its progress reads only lines added since the last call."""
    for name, box in zip(BLOCK_RANGES, BOXES, strict=False):
        journal_of(tmp_path / f"{name}.jsonl", record(box), record(box, "before"))
    parsed, looked_at = [], []
    of_line, box_of = BlockRecord.from_line, receipts._box_of
    monkeypatch.setattr(BlockRecord, "from_line", lambda *of: parsed.append(of) or of_line(*of))
    journal = Journal(tmp_path / "0-of-1.jsonl")
    assert set(journal.recorded({BOXES[1]: "now"})) == {BOXES[1]}
    assert len(parsed) == 2
    journal.add(record(BOXES[1]))
    assert len(parsed) == 2
    monkeypatch.setattr(receipts, "_box_of", lambda line: looked_at.append(line) or box_of(line))
    assert journal.count_voxels("now") == 48
    assert (len(looked_at), len(parsed)) == (7, 2)
    assert journal.count_voxels("now") == 48
    assert (len(looked_at), len(parsed)) == (7, 2)


def test_figures_that_would_swell_the_journal_are_refused(tmp_path: Path) -> None:
    """A histogram of 16-bit grey values took 0.5 MB per block, which every job of the rule read."""
    journal = Journal(tmp_path / "0-of-1.jsonl")
    journal.add(BlockRecord(BOXES[0], "f" * 32, "d" * 32, {"class_voxels": [2**24] * 255}))
    swollen = BlockRecord(BOXES[1], "f" * 32, "d" * 32, {"histogram": {str(grey): 7 for grey in range(1000)}})
    with pytest.raises(ValueError, match=r"block 0:1,0:4,4:8 take \d+ bytes in the journal, at most 4096 are allowed"):
        journal.add(swollen)
    assert set(journal.latest()) == {BOXES[0]}


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
    """The text of a receipt is the same too: names that only some blocks have come in the order of the blocks."""
    records = [record(box) for box in BOXES]
    found = summarise(records)
    assert found == summarise(reversed(records))
    named = [BlockRecord(box, "now", "0", {str(n): 1}) for n, box in enumerate(BOXES)]
    assert json.dumps(summarise(named)) == json.dumps(summarise(reversed(named)))
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
    assert receipts_digest([a, b]) == receipts_digest([again, b])
    assert len({receipts_digest([a, b]), receipts_digest([b, a]), receipts_digest([a]), receipts_digest([])}) == 4


def test_the_digest_of_receipts_does_not_depend_on_the_block_ranges(tmp_path: Path) -> None:
    records = [record(box, digest=fingerprint(box=str(box))) for box in BOXES]
    for name, share in (("a/0-of-1", records), ("b/0-of-2", records[:1]), ("b/1-of-2", records[1:])):
        write_json(tmp_path / f"{name}.json", summarise(share))
    whole, parts = ([*sorted((tmp_path / folder).glob("*.json"))] for folder in "ab")
    assert receipts_digest(whole) == receipts_digest(parts) == receipts_digest(reversed(parts))
    assert receipts_digest(whole) != receipts_digest(parts[:1])


@pytest.mark.parametrize("at", [12, 40, 60, -5])
def test_a_line_whose_bits_changed_does_not_count(tmp_path: Path, at: int) -> None:
    path = tmp_path / "0-of-1.jsonl"
    journal_of(path, record(BOXES[0]))
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)
    assert not Journal(path).finished(NOW, str)
    assert not Journal(path).latest()


def test_of_files_that_a_killed_job_wrote_again_the_record_is_renewed(tmp_path: Path) -> None:
    """Made from f1, from f2, and from f1 again by a job that was killed before it recorded the block.

    The files are those of f1, but the newest record is that of f2: `verify` would call them damaged for ever.
    """
    journal, [a, *_] = Journal(tmp_path / "0-of-1.jsonl"), BOXES
    journal.add(record(a, "f1", "one"))
    journal.add(record(a, "f2", "two"))
    assert set(journal.finished({a: "f1"}, {a: "one"}.get)) == {a}
    assert journal.latest()[a].digest == "one"
    lines = journal.path.read_text()
    assert set(journal.finished({a: "f1"}, {a: "one"}.get)) == {a}
    assert journal.path.read_text() == lines, "the newest record is not written once more"
