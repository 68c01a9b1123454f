"""What a job leaves behind to say that it is done: receipts, journals and fingerprints.

A Zarr store is never a declared output, because Snakemake deletes those of a failed job. Declared is a receipt, a small
JSON file that is written last, by rename. While the job runs, each finished block adds a line to the journal beside it,
so that after a kill only the missing blocks are made again:

```
receipts/predict/train/0-of-2.jsonl   {"box": "0:16,0:256,0:256", "fingerprint": "9f..", "digest": "a1..", ...}
                                      {"box": "0:16,0:256,256:512", ...
                                      {"ended": "SIGTERM received", ...     where a run ended before its work was done
receipts/predict/train/0-of-2.json    written when every block of the shard stands in a journal
```

A block counts as finished only if its line carries the present fingerprint (model, parameters, input and code) and the
files on disk still have the digest of that line.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unet.geometry import Box


def fingerprint(**parts: Any) -> str:
    """Hash of everything that a result depends on; parts are JSON values.

    >>> fingerprint(a=1, b=[2]) == fingerprint(b=[2], a=1) != fingerprint(a=1, b=[3])
    True
    """
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return bytes_digest(text.encode())


def bytes_digest(content: bytes) -> str:
    """Hash of a file's content, or of an array's."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all, also after a kill or a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with temporary.open("wb") as handle:
        handle.write(content)
        handle.flush()
        os.fsync(handle.fileno())
    os.replace(temporary, path)


def write_first(path: Path, values: Any) -> None:
    """Write JSON as `write_json` does, unless another process has written the file before."""
    mine = path.with_name(f".{path.name}.{os.getpid()}.first")
    write_json(mine, values)
    try:
        os.link(mine, path)
    except FileExistsError:
        pass
    finally:
        mine.unlink()


def write_json(path: Path, values: Any) -> None:
    """Write JSON for people and programs, atomically."""
    write_atomically(path, (json.dumps(values, indent=1) + "\n").encode())


def read_json(path: Path) -> Any:
    """Read what `write_json` wrote."""
    return json.loads(path.read_text())


@dataclass(frozen=True)
class BlockRecord:
    """One finished block: where, made from what, what the files hold, and figures that later jobs add up."""

    box: Box
    fingerprint: str
    digest: str
    figures: dict[str, Any] = field(default_factory=dict)

    def to_line(self) -> str:
        """As a line of the journal."""
        values = {"box": str(self.box), "fingerprint": self.fingerprint, "digest": self.digest, "figures": self.figures}
        return json.dumps(values, separators=(",", ":"))

    @classmethod
    def from_line(cls, line: str) -> "BlockRecord":
        """Inverse of `to_line`."""
        values = json.loads(line)
        return cls(Box.parse(values["box"]), values["fingerprint"], values["digest"], values["figures"])


class Journal:
    """The finished blocks of one job; reads those of its neighbours too, which a different sharding may have made."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.read_bytes().endswith(b"\n"):
            # A kill tore the last line; the next one must not be glued to it.
            with path.open("ab") as handle:
                handle.write(b"\n")

    @classmethod
    def beside(cls, receipt: Path) -> "Journal":
        """The journal of the job that will write `receipt`."""
        return cls(receipt.with_suffix(".jsonl"))

    def recorded(self, expected: Mapping[Box, str]) -> dict[Box, BlockRecord]:
        """Those of the blocks that are recorded with their expected fingerprint, the line written last of each."""
        latest: dict[Box, BlockRecord] = {}
        for path in self._journals():
            ours = (record for record in _records(path) if record.fingerprint == expected.get(record.box))
            latest.update({record.box: record for record in ours})
        return latest

    def latest(self) -> dict[Box, BlockRecord]:
        """The line written last of every block, whatever it was made from: what should be on disk."""
        return {record.box: record for path in self._journals() for record in _records(path)}

    def finished(self, expected: Mapping[Box, str], digest_of: Callable[[Box], str | None]) -> dict[Box, BlockRecord]:
        """Those of the blocks made with their expected fingerprint whose files are still what was written."""
        latest = self.recorded(expected)
        return {box: record for box, record in latest.items() if digest_of(box) == record.digest}

    def add_end(self, end: Mapping[str, Any]) -> None:
        """Note that a run of the job ended before its work was done: why, made from what, and what it had done."""
        self._append(json.dumps(end, separators=(",", ":")))

    def ends(self, fingerprint: str) -> list[dict[str, Any]]:
        """What was noted of earlier runs of this job, by `add_end`, under a fingerprint."""
        found = []
        for line in self.path.read_text(errors="replace").splitlines() if self.path.exists() else []:
            with suppress(ValueError):
                values = json.loads(line)
                if "ended" in values and values.pop("fingerprint") == fingerprint:
                    found.append(values)
        return found

    def _journals(self) -> list[Path]:
        """Those of all jobs of the rule on the volume, the one written last at the end."""
        return sorted(self.path.parent.glob("*.jsonl"), key=lambda journal: journal.stat().st_mtime_ns)

    def voxels(self, fingerprint: str) -> int:
        """How many voxels all jobs of the rule on the volume have recorded under a fingerprint."""
        recorded = {r.box for path in self._journals() for r in _records(path) if r.fingerprint == fingerprint}
        return sum(box.size for box in recorded)

    def add(self, record: BlockRecord) -> None:
        """Record a finished block, on disk before this returns."""
        self._append(record.to_line())

    def _append(self, line: str) -> None:
        with self.path.open("ab") as handle:
            handle.write(line.encode() + b"\n")
            handle.flush()
            os.fsync(handle.fileno())


def _records(path: Path) -> Iterable[BlockRecord]:
    for line in path.read_text(errors="replace").splitlines():
        try:
            yield BlockRecord.from_line(line)
        except (ValueError, KeyError, TypeError):
            continue  # torn by a kill: that block is made again; or the end of a run, which is no block


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
        "digest": _sum_of_digests(fingerprint(box=str(record.box), files=record.digest) for record in ordered),
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


def content_digest(receipts: Iterable[Path]) -> str:
    """Fingerprint of what earlier jobs made, from their receipts' digests: names and times do not enter.

    Nor does the number of shards: those of one volume, which share a folder, count as their sum.
    """
    parts: dict[Path, list[str]] = {}
    for path in receipts:
        whole = path.parent if re.fullmatch(r"\d+-of-\d+", path.stem) else path
        parts.setdefault(whole, []).append(read_json(path)["digest"])
    return fingerprint(receipts=[_sum_of_digests(digests) for digests in parts.values()])


def _sum_of_digests(digests: Iterable[str]) -> str:
    """One digest of a set of blocks, however they are shared out: a sum depends neither on order nor on grouping."""
    return f"{sum(int(digest, 16) for digest in digests) % 2**128:032x}"
