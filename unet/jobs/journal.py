"""Record the finished blocks of a job: receipts, journals and fingerprints.

A Zarr store is never a declared output, because Snakemake deletes the outputs of a failed job. The declared output is a
receipt, a small JSON file that is written last, by rename. While the job runs, each finished block adds a line to the
journal beside the receipt. After a kill only the missing blocks are processed again:

```
receipts/predict/train/0-of-2.jsonl   {"box":"0:16,0:256,0:256","fingerprint":"9f..","digest":"a1..","revision":1,...}
                                      {"box":"0:16,0:256,256:512",...
                                      {"ended":"SIGTERM received",...       if a run ended before its work was done
receipts/predict/train/0-of-2.json    written when a journal has every block of the block range
```

A block counts as finished only if two things hold. Its line has the current fingerprint (model, parameters, input and
code), and the files on disk still have the digest in the line.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from google_crc32c import value as crc32c

from unet.geometry.box import Box
from unet.storage.digests import fingerprint, sum_of_digests
from unet.storage.files import named_errors, sync_folder

LINE_BEGINS = b'{"box":"'
CHECK = ',"check":"'
"""What stands before the checksum of a line."""
LONGEST_LINE = 4096
"""Bytes allowed per block's line. It is short because a job reads the lines of all blocks of the volume."""


@dataclass(frozen=True)
class BlockRecord:
    """One finished block.

    Attributes
    ----------
    box : Voxels of the block.
    fingerprint : Hash of everything that the block was made from.
    digest : Digest of the block's files.
    figures : Counts that later jobs add up.
    revision : 1 for the first record of a block, then one more than the highest so far. `Journal.add` sets it. Two
        records are compared without it, since it does not describe the block.
    """

    box: Box
    fingerprint: str
    digest: str
    figures: dict[str, Any] = field(default_factory=dict)
    revision: int = field(default=0, compare=False)

    def to_line(self) -> str:
        """Return the record as a line of the journal.

        Raises
        ------
        ValueError
            If the line is longer than `LONGEST_LINE` bytes.
        """
        values = {"box": str(self.box), **{key: value for key, value in vars(self).items() if key != "box"}}
        line = _with_checksum(_as_line(values))
        if len(line) > LONGEST_LINE:
            raise ValueError(
                f"the figures of block {self.box} take {len(line)} bytes in the journal, at most {LONGEST_LINE} are "
                "allowed: every job of the rule reads it; keep arrays in a file of their own"
            )
        return line

    @classmethod
    def from_line(cls, line: str | bytes, box: Box | None = None) -> "BlockRecord":
        """Return the record of a line; the inverse of `to_line`.

        A box that is known already is not parsed, which takes a third of the time.

        Raises
        ------
        ValueError
            If the line was cut short, or its bits have changed.
        """
        values = json.loads(_without_checksum(line if isinstance(line, bytes) else line.encode()))
        revision = values.get("revision", 0)  # earlier versions wrote none
        box = Box.parse(values["box"]) if box is None else box
        return cls(box, values["fingerprint"], values["digest"], values["figures"], revision)


class Journal:
    """The finished blocks of one job. It also reads the journals of the rule's other jobs on the volume.

    A block may have several records, also in several journals; the one with the highest revision counts. Times do not
    count: the clocks of two nodes differ, and copying the results may change times. Old records stay in the file: a
    line that is skipped costs a microsecond.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._revisions: dict[Box, int] = {}
        self._counts: dict[str, _VoxelCounter] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        if _is_cut_short(path):
            # A kill has cut the last line short; the next line must begin on a line of its own.
            with named_errors(path), path.open("ab") as handle:
                handle.write(b"\n")

    @classmethod
    def of_receipt(cls, receipt: Path) -> "Journal":
        """Open the journal of the job that writes `receipt`."""
        return cls(receipt.with_suffix(".jsonl"))

    def latest(self, boxes: Iterable[Box] | None = None) -> dict[Box, BlockRecord]:
        """Return the newest record of each block, or of the given blocks, whatever its fingerprint.

        The record describes the files that should be on disk.
        """
        return _newest(self._records(boxes))

    def recorded(self, expected: Mapping[Box, str]) -> dict[Box, BlockRecord]:
        """Return, of each block, the newest record that has the block's expected fingerprint.

        Remembers the revisions of all blocks. They stay valid because the caller holds the locks of these blocks for as
        long as it adds records.
        """
        records = list(self._records(expected))
        self._revisions = dict.fromkeys(expected, 0) | {box: r.revision for box, r in _newest(records).items()}
        return _newest(record for record in records if record.fingerprint == expected[record.box])

    def finished(self, expected: Mapping[Box, str], digest_of: Callable[[Box], str | None]) -> dict[Box, BlockRecord]:
        """Return the records of the blocks that have their expected fingerprint and whose files are unchanged.

        Such a record is written again where a newer one describes other files: a run with other settings has replaced
        the files, and a run that was killed has written them anew without recording it.

        Parameters
        ----------
        expected
            Block to fingerprint.
        digest_of
            Function that returns the digest of a block's files on disk; None if a file is missing.
        """
        latest = self.recorded(expected)
        found = {box: record for box, record in latest.items() if digest_of(box) == record.digest}
        return {
            box: self.add(record) if record.revision < self._revisions[box] else record for box, record in found.items()
        }

    def count_voxels(self, fingerprint: str) -> int:
        """Return how many voxels all jobs of the rule on the volume have recorded.

        Records count if their fingerprint begins with `fingerprint`, also if the inputs of their blocks have changed
        since. Only lines that were added since the last call are read.
        """
        count = self._counts.setdefault(fingerprint, _VoxelCounter(fingerprint))
        for path in self._journals():
            count.read(path)
        return count.voxels

    def add(self, record: BlockRecord) -> BlockRecord:
        """Write the record of a finished block to disk, and return it with its revision."""
        last = self._revisions.get(record.box)
        if last is None:
            last = max((known.revision for known in self._records([record.box])), default=0)
        else:
            self._revisions[record.box] = last + 1
        record = replace(record, revision=last + 1)
        self._append(record.to_line())
        return record

    def add_interruption(self, interruption: Mapping[str, Any]) -> None:
        """Record that a run of the job ended early: the reason `ended`, the `fingerprint`, and what it had done."""
        self._append(_as_line(interruption))

    def interruptions(self, fingerprint: str) -> list[dict[str, Any]]:
        """Return the interruptions of earlier runs of this job that have the given fingerprint."""
        found = []
        for line in _lines(self.path) if self.path.exists() else ():
            if b'"ended"' in line:
                with suppress(ValueError, KeyError, TypeError):
                    values = json.loads(line)
                    if values.pop("fingerprint") == fingerprint:
                        found.append(values)
        return found

    def _records(self, boxes: Iterable[Box] | None) -> Iterator[BlockRecord]:
        """Yield all records of the given blocks, or of all blocks; lines of other blocks are not parsed."""
        wanted = None if boxes is None else {str(box).encode(): box for box in boxes}
        for path in self._journals():
            for line in _lines(path):
                box = None if wanted is None else wanted.get(_box_of(line))
                if (wanted is None or box is not None) and (record := _parse_line(line, box)):
                    yield record

    def _journals(self) -> list[Path]:
        """Return the journals of all jobs of the rule on the volume."""
        return sorted(self.path.parent.glob("*.jsonl"))

    def _append(self, line: str) -> None:
        is_new = not self.path.exists()
        with named_errors(self.path), self.path.open("ab") as handle:
            handle.write(line.encode() + b"\n")
            handle.flush()
            os.fsync(handle.fileno())
        if is_new:
            sync_folder(self.path.parent)


class _VoxelCounter:
    """Count the voxels of the blocks that are recorded with a fingerprint, as the journals grow."""

    def __init__(self, fingerprint: str) -> None:
        self.voxels = 0
        self._key = f'"fingerprint":"{fingerprint}'.encode()
        self._read: dict[Path, int] = {}
        self._boxes: set[bytes] = set()

    def read(self, path: Path) -> None:
        """Count the lines that were added to a journal since the last call."""
        with path.open("rb") as file:
            file.seek(self._read.get(path, 0))
            for line in file:
                if not line.endswith(b"\n"):  # still being written
                    break
                self._read[path] = self._read.get(path, 0) + len(line)
                box = _box_of(line)
                # A line that a kill has cut short has unequal numbers of braces. Parsing would take ten times as long.
                if box and self._key in line and line.count(b"{") == line.count(b"}") and box not in self._boxes:
                    self._boxes.add(box)
                    self.voxels += Box.parse(box.decode()).size


def _newest(records: Iterable[BlockRecord]) -> dict[Box, BlockRecord]:
    """Return the record with the highest revision of each block."""
    newest: dict[Box, BlockRecord] = {}
    for record in records:
        if record.box not in newest or record.revision >= newest[record.box].revision:
            newest[record.box] = record
    return newest


def _box_of(line: bytes) -> bytes:
    """Return the text of a record's box from the beginning of its line, without parsing the rest."""
    return line[len(LINE_BEGINS) : line.find(b'"', len(LINE_BEGINS))] if line.startswith(LINE_BEGINS) else b""


def _parse_line(line: bytes, box: Box | None = None) -> BlockRecord | None:
    """Return the record of a line; None for an interruption, or a line that is cut short or damaged.

    The block of a damaged line is processed again.
    """
    with suppress(ValueError, KeyError, TypeError):
        return BlockRecord.from_line(line, box)
    return None


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from file


def _is_cut_short(path: Path) -> bool:
    """Tell whether a file ends within a line."""
    if not path.exists() or path.stat().st_size == 0:
        return False
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read() != b"\n"


def _as_line(values: Mapping[str, Any]) -> str:
    return json.dumps(values, separators=(",", ":"))


def _with_checksum(line: str) -> str:
    """Return a line with the CRC-32C of all before it as its last value."""
    return f'{line[:-1]}{CHECK}{crc32c(line[:-1].encode()):08x}"}}'


def _without_checksum(line: bytes) -> bytes:
    """Return a line without its checksum; a line without one, as earlier versions wrote it, as it is."""
    before, found, check = line.rpartition(CHECK.encode())
    if not found:
        return line
    if check.strip() != f'{crc32c(before):08x}"}}'.encode():
        raise ValueError("the checksum of the line is wrong")
    return before + b"}"


def summarise(records: Iterable[BlockRecord]) -> dict[str, Any]:
    """Return the entries of a receipt for its blocks: their number, voxels, summed figures, and one digest."""
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
    """Return the sum of two nested sets of counts; a missing key counts as 0.

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
    """Return the bytes of files by their paths relative to the receipt's folder, to be listed in the receipt."""
    return {os.path.relpath(path, receipt.parent): path.stat().st_size for path in files}
