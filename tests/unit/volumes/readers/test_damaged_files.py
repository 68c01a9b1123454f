"""Damaged files end in an error that names them, or are read: no crash, no hang, no memory beyond them.

Every example runs in a process of limited memory, see `hostile_worker`. `make test` tries some hundred files. For more:
UNET_EM_FUZZ_SECONDS=3600 pytest -s -m slow -k damaged tests/unit/volumes/readers/test_damaged_files.py
"""

import os
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.unit.volumes.readers.hostile_files import written
from tests.unit.volumes.readers.hostile_worker import Reader, bad
from tests.unit.volumes.readers.mutations import MUTATIONS, Mutation
from tests.unit.volumes.readers.test_every_format import files_below
from tests.unit.volumes.readers.writers import WRITERS

EXAMPLES = 25
"""Damaged files of each writer in `make test`."""
ROUND = 100
"""Damaged files of a writer, one after the other, in a long search."""


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


def damaged(reader: Reader, folder: Path, address: str, which: float, mutations: list[Mutation]) -> str:
    """Read a volume after changes of one of its files, which is restored."""
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


def search(reader: Reader, name: str, folder: Path, address: str, examples: int, start: int | None = None) -> None:
    """Look for a file that is neither read nor refused."""
    # An example that hangs takes its time again whenever it is made smaller.
    phases = [Phase.explicit, Phase.generate]
    options: dict[str, Any] = {"database": None, "suppress_health_check": list(HealthCheck), "phases": phases}

    @settings(max_examples=examples, **options)
    @given(which=st.floats(0, 1, exclude_max=True), mutations=MUTATIONS)
    def refused_or_read(which: float, mutations: list[Mutation]) -> None:
        found = damaged(reader, folder, address, which, mutations)
        assert not bad(found), f"{name}: {found}"

    (seed(start)(refused_or_read) if start is not None else refused_or_read)()


@pytest.mark.parametrize("name", WRITERS)
def test_a_damaged_file_is_refused_or_read(reader: Reader, valid: dict[str, tuple[Path, str]], name: str) -> None:
    search(reader, name, *valid[name], EXAMPLES)


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_many_damaged_files_are_refused_or_read(reader: Reader, valid: dict[str, tuple[Path, str]]) -> None:
    """Print the number of files of each writer, and every failure once; each has the seed that repeats it."""
    end, start = time.monotonic() + float(os.environ.get("UNET_EM_FUZZ_SECONDS", "60")), time.time_ns() % 2**32
    tried, failures = Counter[str](), dict[str, str]()
    while time.monotonic() < end:
        for name, (folder, address) in valid.items():
            start += 1
            try:
                search(reader, name, folder, address, ROUND, start)
            except AssertionError as error:
                failures.setdefault(str(error).partition("\n")[0], f"{name}, seed {start}: {error}")
                print("failure", failures[str(error).partition("\n")[0]], flush=True)
            tried[name] += ROUND
        print(f"{min(tried.values())} files of each writer, {len(failures)} failures", flush=True)
    print(dict(tried))
    assert not failures, "\n".join(failures.values())
