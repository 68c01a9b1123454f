"""Hostile files end in an error that names them, or are read: no crash, no hang, no memory beyond them.

Every example runs in a process of limited memory, see `hostile_worker`.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.volumes.readers.hostile_files import EITHER, READ, REFUSED, written
from tests.unit.volumes.readers.hostile_worker import Reader, bad
from tests.unit.volumes.readers.writers import WRITERS


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """The process that reads, after it has read a file of every format."""
    folder = tmp_path_factory.mktemp("valid")
    process = Reader([written(folder / str(i), name) for i, name in enumerate(WRITERS)])
    yield process
    process.close()


def hand_made(examples: dict[str, Callable[[Path], str]]) -> list[Any]:
    """The examples as parameters of a test."""
    return [pytest.param(make, id=name) for name, make in examples.items()]


@pytest.mark.parametrize("make", hand_made(REFUSED))
def test_a_hostile_file_is_refused(reader: Reader, tmp_path: Path, make: Callable[[Path], str]) -> None:
    assert reader.outcome(make(tmp_path)).startswith("refused: ")


@pytest.mark.parametrize("make", hand_made(READ))
def test_a_strange_file_is_read(reader: Reader, tmp_path: Path, make: Callable[[Path], str]) -> None:
    assert reader.outcome(make(tmp_path)) == "read"


@pytest.mark.parametrize("make", hand_made(EITHER))
def test_a_bomb_does_not_go_off(reader: Reader, tmp_path: Path, make: Callable[[Path], str]) -> None:
    assert not bad(reader.outcome(make(tmp_path)))
