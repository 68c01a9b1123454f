"""What a job leaves behind to say that it is done: receipts, journals and fingerprints.

A Zarr store is never a declared output, because Snakemake deletes those of a failed job. Declared is a receipt, a small
JSON file that is written last, by rename. While the job runs, each finished block adds a line to the journal beside it,
so that after a kill only the missing blocks are made again:

```
receipts/predict/train/0-of-2.jsonl   {"box":"0:16,0:256,0:256","fingerprint":"9f..","digest":"a1..","revision":1,...}
                                      {"box":"0:16,0:256,256:512",...
                                      {"ended":"SIGTERM received",...       where a run ended before its work was done
receipts/predict/train/0-of-2.json    written when every block of the block range stands in a journal
```

A block counts as finished only if its line carries the present fingerprint (model, parameters, input and code) and the
files on disk still have the digest of that line.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from unet.geometry.box import Box
from unet.storage.digests import fingerprint, sum_of_digests
from unet.storage.files import sync_folder

LINE_BEGINS = b'{"box":"'
LONGEST_LINE = 4096
"""Bytes of a block's line: a job reads the lines of all blocks of the volume."""


@dataclass(frozen=True)
class BlockRecord:
    """One finished block.

    Attributes
    ----------
    box : Where it lies.
    fingerprint : Of all that it was made from.
    digest : Of its files.
    figures : Counts that later jobs add up.
    revision : 1 for the first record of a block, then 1 more than that of any earlier one; `Journal.add` gives it, and
        it says nothing of the block itself, so two records are compared without it.
    """

    box: Box
    fingerprint: str
    digest: str
    figures: dict[str, Any] = field(default_factory=dict)
    revision: int = field(default=0, compare=False)

    def to_line(self) -> str:
        """As a line of the journal.

        Raises
        ------
        ValueError
            If it is longer than `LONGEST_LINE`.
        """
        line = _as_line({"box": str(self.box), **{key: value for key, value in vars(self).items() if key != "box"}})
        if len(line) > LONGEST_LINE:
            raise ValueError(
                f"the figures of block {self.box} take {len(line)} bytes in the journal, at most {LONGEST_LINE} are "
                "allowed: every job of the rule reads it; keep arrays in a file of their own"
            )
        return line

    @classmethod
    def from_line(cls, line: str | bytes) -> "BlockRecord":
        """Inverse of `to_line`."""
        values = json.loads(line)
        revision = values.get("revision", 0)  # earlier versions wrote none
        return cls(Box.parse(values["box"]), values["fingerprint"], values["digest"], values["figures"], revision)


class Journal:
    """The finished blocks of one job; reads those of its neighbours too, which may have had other blocks.

    Of several records of a block the one with the highest revision counts, in whatever journal it stands. Times do not
    count: the clocks of two nodes differ, and a copy of the results may have none. Old records stay: a line that is not
    asked for costs a microsecond.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._revisions: dict[Box, int] = {}
        self._counts: dict[str, _VoxelCounter] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        if _is_torn(path):
            # A kill tore the last line; the next one must not be glued to it.
            with path.open("ab") as handle:
                handle.write(b"\n")

    @classmethod
    def of_receipt(cls, receipt: Path) -> "Journal":
        """The journal of the job that will write `receipt`."""
        return cls(receipt.with_suffix(".jsonl"))

    def latest(self, boxes: Iterable[Box] | None = None) -> dict[Box, BlockRecord]:
        """The newest record of each block, or of some blocks, whatever it was made from: what should be on disk."""
        return _newest(self._records(boxes))

    def recorded(self, expected: Mapping[Box, str]) -> dict[Box, BlockRecord]:
        """The newest record with its expected fingerprint of each of the blocks that have one.

        The caller holds the blocks' locks as long as it adds records of them, so their revisions need no other look.
        """
        records = list(self._records(expected))
        self._revisions = dict.fromkeys(expected, 0) | {box: r.revision for box, r in _newest(records).items()}
        return _newest(record for record in records if record.fingerprint == expected[record.box])

    def finished(self, expected: Mapping[Box, str], digest_of: Callable[[Box], str | None]) -> dict[Box, BlockRecord]:
        """Those of the blocks made with their expected fingerprint whose files are still what was written."""
        latest = self.recorded(expected)
        return {box: record for box, record in latest.items() if digest_of(box) == record.digest}

    def count_voxels(self, fingerprint: str) -> int:
        """How many voxels all jobs of the rule on the volume have recorded under a fingerprint that begins so.

        Only what was added since the last call is read. A block whose inputs have changed since counts as well.
        """
        count = self._counts.setdefault(fingerprint, _VoxelCounter(fingerprint))
        for path in self._journals():
            count.read(path)
        return count.voxels

    def add(self, record: BlockRecord) -> BlockRecord:
        """Record a finished block under its next revision, on disk before this returns; the record as it stands."""
        last = self._revisions.get(record.box)
        if last is None:
            last = max((known.revision for known in self._records([record.box])), default=0)
        else:
            self._revisions[record.box] = last + 1
        record = replace(record, revision=last + 1)
        self._append(record.to_line())
        return record

    def add_interruption(self, end: Mapping[str, Any]) -> None:
        """Note that a run of the job ended before its work was done: why, made from what, and what it had done."""
        self._append(_as_line(end))

    def interruptions(self, fingerprint: str) -> list[dict[str, Any]]:
        """What was noted of earlier runs of this job, by `add_interruption`, under a fingerprint."""
        found = []
        for line in _lines(self.path) if self.path.exists() else ():
            if b'"ended"' in line:
                with suppress(ValueError, KeyError, TypeError):
                    values = json.loads(line)
                    if values.pop("fingerprint") == fingerprint:
                        found.append(values)
        return found

    def _records(self, boxes: Iterable[Box] | None) -> Iterator[BlockRecord]:
        """All records of some blocks, or of all; those of others are not parsed."""
        wanted = None if boxes is None else {str(box).encode() for box in boxes}
        for path in self._journals():
            for line in _lines(path):
                if (wanted is None or _box_of(line) in wanted) and (record := _parsed(line)):
                    yield record

    def _journals(self) -> list[Path]:
        """Those of all jobs of the rule on the volume."""
        return sorted(self.path.parent.glob("*.jsonl"))

    def _append(self, line: str) -> None:
        is_new = not self.path.exists()
        with self.path.open("ab") as handle:
            handle.write(line.encode() + b"\n")
            handle.flush()
            os.fsync(handle.fileno())
        if is_new:
            sync_folder(self.path.parent)


class _VoxelCounter:
    """Counts the voxels of the blocks that are recorded under a fingerprint, as the journals grow."""

    def __init__(self, fingerprint: str) -> None:
        self.voxels = 0
        self._key = f'"fingerprint":"{fingerprint}'.encode()
        self._read: dict[Path, int] = {}
        self._boxes: set[bytes] = set()

    def read(self, path: Path) -> None:
        """Count what was added to a journal since the last look."""
        with path.open("rb") as file:
            file.seek(self._read.get(path, 0))
            for line in file:
                if not line.endswith(b"\n"):  # it is being written
                    break
                self._read[path] = self._read.get(path, 0) + len(line)
                box = _box_of(line)
                # The braces of a line that a kill tore do not pair; parsing all lines would take ten times as long.
                if box and self._key in line and line.count(b"{") == line.count(b"}") and box not in self._boxes:
                    self._boxes.add(box)
                    self.voxels += Box.parse(box.decode()).size


def _newest(records: Iterable[BlockRecord]) -> dict[Box, BlockRecord]:
    """Of each block the record with the highest revision."""
    newest: dict[Box, BlockRecord] = {}
    for record in records:
        if record.box not in newest or record.revision >= newest[record.box].revision:
            newest[record.box] = record
    return newest


def _box_of(line: bytes) -> bytes:
    """The box of a record, which begins its line, without parsing the rest."""
    return line[len(LINE_BEGINS) : line.find(b'"', len(LINE_BEGINS))] if line.startswith(LINE_BEGINS) else b""


def _parsed(line: bytes) -> BlockRecord | None:
    """A line of the journal; None where a kill tore it, so that its block is made again, or it tells of a run's end."""
    with suppress(ValueError, KeyError, TypeError):
        return BlockRecord.from_line(line)
    return None


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from file


def _is_torn(path: Path) -> bool:
    """Whether a file ends within a line."""
    if not path.exists() or path.stat().st_size == 0:
        return False
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read() != b"\n"


def _as_line(values: Mapping[str, Any]) -> str:
    return json.dumps(values, separators=(",", ":"))


def summarise(records: Iterable[BlockRecord]) -> dict[str, Any]:
    """What a receipt says of its blocks: number, voxels, the sum of their figures, one digest of them all."""
    ordered = sorted(records, key=lambda record: record.box)
    figures: dict[str, Any] = {}
    for record in ordered:
        figures = add_figures(figures, record.figures)
    return {
        **figures,
        "blocks": len(ordered),
        "voxels": sum(record.box.size for record in ordered),
        "digest": sum_of_digests(fingerprint(box=str(record.box), files=record.digest) for record in ordered),
    }


def add_figures(a: dict[str, Any], b: dict[str, Any]) -> dict[str, Any]:
    """Sum of two nested sets of counts; a key that is missing counts as 0.

    >>> add_figures({"voxels": [1, 2], "levels": {"7": 1}}, {"voxels": [3, 4], "levels": {"9": 1}})
    {'voxels': [4, 6], 'levels': {'7': 1, '9': 1}}
    """
    total = dict(a)
    for key, value in b.items():
        if key not in total:
            total[key] = value
        elif isinstance(value, dict):
            total[key] = add_figures(total[key], value)
        elif isinstance(value, list):
            total[key] = [x + y for x, y in zip(total[key], value, strict=True)]
        else:
            total[key] += value
    return total


def file_sizes(files: Iterable[Path], receipt: Path) -> dict[str, int]:
    """Bytes of the files that a receipt stands for and no store holds, by their paths from its folder."""
    return {os.path.relpath(path, receipt.parent): path.stat().st_size for path in files}
