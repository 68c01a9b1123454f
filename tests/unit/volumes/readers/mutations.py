"""Damage to the bytes of files, as hypothesis draws it."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from hypothesis import strategies as st

NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1)
TEXTS = (b"0", b"-1", b"1", b"99999999999", b"18446744073709551615", b"1e308", b"nan", b"", b"2147483648")


@dataclass(frozen=True)
class Mutation:
    """One change of the bytes of a file. Places are shares of its length, so that they fit any file."""

    kind: str
    at: float
    to: float
    value: int

    def __call__(self, content: bytes) -> bytes:
        """Return the changed bytes."""
        at, to = int(self.at * len(content)), int(self.to * len(content))
        return KINDS[self.kind](content, at, to, self.value) if content else content


def flip(content: bytes, at: int, to: int, value: int) -> bytes:
    changed = bytearray(content)
    changed[at] ^= 1 << value % 8
    return bytes(changed)


def cut(content: bytes, at: int, to: int, value: int) -> bytes:
    return content[:at]


def splice(content: bytes, at: int, to: int, value: int) -> bytes:
    piece = content[at : at + 1 + value % 64]
    return content[:to] + piece + content[to + len(piece) :]


def remove(content: bytes, at: int, to: int, value: int) -> bytes:
    return content[:at] + content[at + 1 + value % 16 :]


def number(content: bytes, at: int, to: int, value: int) -> bytes:
    """Overwrite 1, 2, 4 or 8 bytes at a multiple of their count by a number at the limit of a type."""
    width, order = (1, 2, 4, 8)[value % 4], ("little", "big")[value // 4 % 2]
    found = NUMBERS[value // 8 % len(NUMBERS)] % (1 << 8 * width)
    at -= at % width
    return content[:at] + found.to_bytes(width, order) + content[at + width :]  # type: ignore[arg-type]


def digits(content: bytes, at: int, to: int, value: int) -> bytes:
    """Replace a number that is written as text."""
    runs = list(re.finditer(rb"\d+", content[:8192]))
    if not runs:
        return flip(content, at, to, value)
    run = runs[at * len(runs) // len(content)]
    return content[: run.start()] + TEXTS[value % len(TEXTS)] + content[run.end() :]


KINDS: dict[str, Callable[[bytes, int, int, int], bytes]] = {
    "flip": flip,
    "number": number,
    "digits": digits,
    "cut": cut,
    "splice": splice,
    "remove": remove,
}
SHARES = st.one_of(st.floats(0, 0.1), st.floats(0, 1, exclude_max=True))
"""Headers lie in the first tenth of most files."""
MUTATIONS = st.lists(
    st.builds(Mutation, st.sampled_from(sorted(KINDS)), SHARES, SHARES, st.integers(0, 1023)), min_size=1, max_size=4
)
