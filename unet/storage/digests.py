"""Hashes of settings, of bytes, and of the contents of stores."""

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from imagecodecs import deflate_adler32, deflate_crc32

from unet.storage.files import read_json


def fingerprint(**parts: Any) -> str:
    """Return the hash of everything that a result depends on, given as JSON values.

    >>> fingerprint(a=1, b=[2]) == fingerprint(b=[2], a=1) != fingerprint(a=1, b=[3])
    True
    """
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return bytes_digest(text.encode())


def bytes_digest(content: bytes) -> str:
    """Return the hash of bytes, e.g. of a file or an array."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def files_digest(files: Iterable[Iterable[bytes]]) -> str:
    """Return the hash of the sizes and checksums of some files, each given in pieces.

    CRC-32 and Adler-32, 64 bits per file, notice changes by accident and not by intent. They take a tenth of the time
    of a cryptographic hash. CRC-32C would be blind here: in a shard it follows each chunk, and the CRC-32C of a chunk
    with its own CRC-32C is the same for any content.

    >>> files_digest([[b"ab", b"c"], [b"d"]]) == files_digest([[b"abc"], [b"d"]]) != files_digest([[b"abc", b"d"]])
    True
    """
    summary = hashlib.blake2b(digest_size=16)
    for pieces in files:
        size, crc, adler = 0, 0, 1
        for piece in pieces:
            size += len(piece)
            crc, adler = deflate_crc32(piece, value=crc), deflate_adler32(piece, value=adler)
        summary.update(b"".join(number.to_bytes(8, "little") for number in (size, crc, adler)))
    return summary.hexdigest()


def receipts_digest(receipts: Iterable[Path]) -> str:
    """Return the hash of the results of earlier jobs, from the digests in their receipts.

    It depends neither on names and times nor on the number of block ranges. The block ranges of one volume, whose
    receipts are in one folder, count by the sum of their digests.
    """
    parts: dict[Path, list[str]] = {}
    for path in receipts:
        volume = path.parent if re.fullmatch(r"\d+-of-\d+", path.stem) else path
        parts.setdefault(volume, []).append(read_json(path)["digest"])
    return fingerprint(receipts=[sum_of_digests(digests) for digests in parts.values()])


def sum_of_digests(digests: Iterable[str]) -> str:
    """Return one digest of a set of blocks: a sum, because it depends neither on their order nor on their grouping."""
    return f"{sum(int(digest, 16) for digest in digests) % 2**128:032x}"
