"""Digests: hashes of settings, of bytes, and of what is stored in blocks."""

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from unet.storage.files import read_json


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


def receipts_digest(receipts: Iterable[Path]) -> str:
    """Fingerprint of what earlier jobs made, from their receipts' digests: names and times do not enter.

    Nor does the number of shards: those of one volume, which share a folder, count as their sum.
    """
    parts: dict[Path, list[str]] = {}
    for path in receipts:
        whole = path.parent if re.fullmatch(r"\d+-of-\d+", path.stem) else path
        parts.setdefault(whole, []).append(read_json(path)["digest"])
    return fingerprint(receipts=[sum_of_digests(digests) for digests in parts.values()])


def sum_of_digests(digests: Iterable[str]) -> str:
    """One digest of a set of blocks, however they are shared out: a sum depends neither on order nor on grouping."""
    return f"{sum(int(digest, 16) for digest in digests) % 2**128:032x}"
