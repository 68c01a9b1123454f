"""Digests of files: any change of a file shows, and how it is cut into pieces does not."""

import numpy as np
from google_crc32c import value as crc32c
from hypothesis import given, settings
from hypothesis import strategies as st

from unet.storage.digests import files_digest

CONTENT = np.random.default_rng(0).integers(0, 256, 5000, np.uint8).tobytes()


@settings(deadline=None)
@given(at=st.integers(0, len(CONTENT) - 1), flipped=st.integers(1, 255), end=st.integers(0, len(CONTENT) - 1))
def test_a_changed_byte_and_a_lost_end_change_the_digest(at: int, flipped: int, end: int) -> None:
    changed = CONTENT[:at] + bytes([CONTENT[at] ^ flipped]) + CONTENT[at + 1 :]
    digests = {files_digest([[content]]) for content in (CONTENT, changed, CONTENT[:end])}
    assert len(digests) == 3


@given(cuts=st.lists(st.integers(0, len(CONTENT)), max_size=4).map(sorted))
def test_pieces_of_a_file_do_not_count_but_its_end_does(cuts: list[int]) -> None:
    pieces = [CONTENT[a:b] for a, b in zip([0, *cuts], [*cuts, len(CONTENT)], strict=True)]
    assert files_digest([pieces]) == files_digest([[CONTENT]])
    assert files_digest([pieces, []]) != files_digest([[CONTENT]]) != files_digest([[], pieces])


def test_chunks_of_equal_size_with_their_own_checksums_have_digests_of_their_own() -> None:
    chunks = [np.full(1000, n, np.uint8).tobytes() for n in range(200)]
    files = [chunk + crc32c(chunk).to_bytes(4, "little") for chunk in chunks]
    assert len({crc32c(file) for file in files}) == 1  # why it is another checksum
    assert len({files_digest([[file]]) for file in files}) == len(files)
