"""Damaged and hostile files end in an error that names them, or are read: no crash, no hang, no memory beyond them.

Every example runs in a process of limited memory, see `hostile_worker`. `make test` tries some hundred files. For more:
UNET_EM_FUZZ_SECONDS=3600 pytest -m slow -k damaged tests/unit/volumes/readers/test_hostile_files.py
"""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from tests.unit.volumes.readers.hostile_worker import Reader
from tests.unit.volumes.readers.mutations import MUTATIONS, Mutation
from tests.unit.volumes.readers.test_every_format import files_below, small, volume
from tests.unit.volumes.readers.writers import WRITERS, Stored

SHAPE = (3, 9, 11)
EXAMPLES = 25
"""Damaged files of each writer in `make test`."""
STORED = Stored(voxel_size_nm=(40.0, 5.0, 4.0))


def written(folder: Path, name: str) -> str:
    """The address of a small valid volume."""
    folder.mkdir(parents=True)
    values = volume(small(WRITERS[name]), SHAPE)
    return WRITERS[name].write(folder, values, STORED)


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, str]]:
    """Folder and address of a valid volume by the name of its writer."""
    folder = tmp_path_factory.mktemp("valid")
    return {name: (folder / str(i), written(folder / str(i), name)) for i, name in enumerate(WRITERS)}


@pytest.fixture(scope="module")
def reader(valid: dict[str, tuple[Path, str]]) -> Iterator[Reader]:
    """The process that reads."""
    process = Reader([address for _, address in valid.values()])
    yield process
    process.close()


def bad(outcome: str) -> bool:
    """Whether reading has ended as it never should."""
    return not outcome.startswith(("read", "refused: "))


def damaged(reader: Reader, folder: Path, address: str, which: float, mutations: list[Mutation]) -> str:
    """How a volume is read after changes of one of its files, which is restored."""
    paths = files_below(folder)
    path = paths[int(which * len(paths))]
    content = changed = path.read_bytes()
    for mutation in mutations:
        changed = mutation(changed)
    path.write_bytes(changed)
    try:
        return reader.outcome(address)
    finally:
        path.write_bytes(content)


def search(reader: Reader, folder: Path, address: str, examples: int, start: int | None = None) -> None:
    """Look for a file that is neither read nor refused."""

    @settings(max_examples=examples, database=None, suppress_health_check=list(HealthCheck))
    @given(which=st.floats(0, 1, exclude_max=True), mutations=MUTATIONS)
    def refused_or_read(which: float, mutations: list[Mutation]) -> None:
        found = damaged(reader, folder, address, which, mutations)
        assert not bad(found), f"{address}: {found}"

    (seed(start)(refused_or_read) if start is not None else refused_or_read)()


@pytest.mark.parametrize("name", WRITERS)
def test_a_damaged_file_is_refused_or_read(reader: Reader, valid: dict[str, tuple[Path, str]], name: str) -> None:
    search(reader, *valid[name], EXAMPLES)


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_many_damaged_files_are_refused_or_read(reader: Reader, valid: dict[str, tuple[Path, str]]) -> None:
    end, start = time.monotonic() + float(os.environ.get("UNET_EM_FUZZ_SECONDS", "60")), time.time_ns() % 2**32
    while time.monotonic() < end:
        for folder, address in valid.values():
            start += 1
            search(reader, folder, address, 100, start)
