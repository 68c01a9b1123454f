"""Files are complete or absent: after kills, full disks and power cuts, and with many writers at the same time."""

import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np
import pytest

from unet.storage import files
from unet.storage.files import (
    DamagedFileError,
    load_arrays,
    named_errors,
    read_json,
    save_arrays,
    write_atomically,
    write_folder_with,
    write_json,
    write_json_if_absent,
    write_receipt,
    write_with,
)

WRITERS: dict[str, Callable[[Path], object]] = {
    "bytes": lambda path: write_atomically(path, b"new"),
    "json": lambda path: write_json(path, {"new": 1}),
    "arrays": lambda path: save_arrays(path, {"new": np.zeros(3)}),
    "first": lambda path: write_json_if_absent(path, {"new": 1}),
    "folder": lambda path: write_folder_with(path, lambda new: (new / "a.npy").write_bytes(b"new")),
}
writers = pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)


def at_once(*works: Callable[[], object]) -> list[BaseException]:
    """Run functions at the same time, and return their errors."""
    begin, errors = threading.Barrier(len(works)), []

    def run(work: Callable[[], object]) -> None:
        begin.wait()
        try:
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


def without_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse hard links, as exFAT does."""

    def link(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)


@writers
def test_a_full_disk_leaves_neither_a_part_nor_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path], object]
) -> None:
    def no_space(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    def half(file: IO[bytes]) -> None:
        file.write(b"half")
        raise ValueError("the other half")

    path = tmp_path / "new" / "receipt.json"
    write_json(path, {"a": 1})
    assert path.read_text() == '{\n "a": 1\n}\n'
    with pytest.raises(ValueError, match="the other half"):
        write_with(path, half)
    assert read_json(path) == {"a": 1}
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    def half(new: Path) -> None:
        (new / "a").write_text("half")
        raise ValueError("the other half")

    folder = tmp_path / "merge"
    for content in ("1", "2"):
        write_folder_with(folder, lambda new, content=content: (new / "a").write_text(content))
    with pytest.raises(ValueError, match="the other half"):
        write_folder_with(folder, half)
    assert (folder / "a").read_text() == "2"
    assert list(tmp_path.iterdir()) == [folder]


@writers
def test_content_is_on_disk_before_its_name_and_the_name_before_the_return(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path], object]
) -> None:
    """Expect this order: the content (and that of a folder), the name, the folder where the name stands."""
    done: list[str] = []

    def noting(name: str, real: Callable[..., None]) -> None:
        def noted(*arguments: object) -> None:
            done.append(f"{name} {os.fstat(arguments[0]).st_ino}" if isinstance(arguments[0], int) else name)
            real(*arguments)

        monkeypatch.setattr(os, name, noted)

    for name in ("fsync", "replace", "link"):
        noting(name, getattr(os, name))
    path = tmp_path / "file"
    write(path)
    named = next(i for i, event in enumerate(done) if event in ("replace", "link"))
    content = [path, *path.iterdir()] if path.is_dir() else [path]
    assert {f"fsync {one.stat().st_ino}" for one in content} <= set(done[:named])
    assert f"fsync {tmp_path.stat().st_ino}" in done[named:]


def test_a_file_system_that_cannot_synchronise_folders_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.EINVAL, "Invalid argument")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    for name, write in WRITERS.items():
        write(tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(WRITERS)


def test_arrays_come_back(tmp_path: Path) -> None:
    save_arrays(tmp_path / "a.npz", {"first": np.arange(3, dtype=np.uint8), "second": np.ones((2, 2))})
    found = load_arrays(tmp_path / "a.npz", "first")
    assert found["first"].tolist() == [0, 1, 2]
    assert found["first"].dtype == np.uint8
    assert found["second"].tolist() == [[1, 1], [1, 1]]


# Several writers


def test_writers_of_one_process_id_do_not_meet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two containers on a shared file system, in both of which the job is process 7."""
    monkeypatch.setattr(os, "getpid", lambda: 7)
    path = tmp_path / "choice.json"
    contents = [{"who": who, "x": list(range(2000))} for who in range(2)]
    for write in (write_json_if_absent, write_json):
        for _ in range(20):
            path.unlink(missing_ok=True)
            assert at_once(*(partial(write, path, content) for content in contents)) == []
            assert read_json(path) in contents
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("links", [True, False], ids=["hard links", "no hard links"])
def test_the_first_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    if not links:
        without_links(monkeypatch)
    path = tmp_path / "choice.json"
    for who in range(3):
        write_json_if_absent(path, {"who": who})
        assert read_json(path) == {"who": 0}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("links", [True, False], ids=["hard links", "no hard links"])
def test_of_many_at_once_one_stands_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    if not links:
        without_links(monkeypatch)
        monkeypatch.setattr(files, "CLAIM_POLL_S", 0.001)
    path, seen = tmp_path / "choice.json", []

    def write(who: int) -> None:
        write_json_if_absent(path, {"who": who, "x": list(range(2000))})
        seen.append(read_json(path))

    for _ in range(20):
        path.unlink(missing_ok=True)
        seen.clear()
        assert at_once(*(partial(write, who) for who in range(6))) == []
        assert seen == [seen[0]] * 6
    assert list(tmp_path.iterdir()) == [path]


def test_a_claim_of_a_killed_writer_is_not_waited_for_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_links(monkeypatch)
    monkeypatch.setattr(files, "CLAIM_TIMEOUT_S", 0.0)
    (tmp_path / "choice.json.claim.partial").touch()
    write_json_if_absent(tmp_path / "choice.json", {"who": 1})
    assert [path.name for path in tmp_path.iterdir()] == ["choice.json"]


# Leftovers

KILLED = """
import sys
from pathlib import Path
from typing import IO
from unet.storage.files import write_folder_with, write_with

def half(file):
    file.write(b"half")
    file.flush()
    print("written", flush=True)
    sys.stdin.read()

def half_of_folder(new):
    with (new / "a").open("wb") as file:
        half(file)

path = Path(sys.argv[1])
if sys.argv[2] == "folder":
    write_folder_with(path, half_of_folder)
else:
    write_with(path, half)
"""


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_what_a_kill_leaves_is_removed_an_hour_later_and_not_before(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "state"
    write = WRITERS["folder" if kind == "folder" else "bytes"]
    write(path)
    before = path.stat().st_ino
    command = [sys.executable, "-c", KILLED, str(path), kind]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "written\n"
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert path.stat().st_ino == before
    [left] = [one for one in tmp_path.iterdir() if one != path]
    write(path)
    assert left.exists(), "it might be a living writer's"
    for one in (left, *(left.iterdir() if left.is_dir() else ())):
        os.utime(one, (one.stat().st_mtime - 3700,) * 2)
    write(path)
    assert list(tmp_path.iterdir()) == [path]


def test_leftovers_of_other_files_stay_but_for_those_of_tables(tmp_path: Path) -> None:
    """A job writes hundreds of tables into one folder: the folder is searched once for all of them."""
    others = [tmp_path / "a.json.1.partial", tmp_path / "b.json.1.partial"]
    for one in others:
        one.touch()
        os.utime(one, (0, 0))
    write_json(tmp_path / "a.json", 1)
    assert [one.exists() for one in others] == [False, True]
    save_arrays(tmp_path / "c.npz", {"a": np.zeros(1)})
    assert [one.exists() for one in others] == [False, False]


def test_a_folder_in_which_a_piece_still_grows_is_not_left(tmp_path: Path) -> None:
    """A merge may take a day: its folder has changed when its first file was made, the file a moment ago."""
    growing = tmp_path / "merge.1.partial"
    growing.mkdir()
    (growing / "lut.npy").touch()
    os.utime(growing, (0, 0))
    write = WRITERS["folder"]
    write(tmp_path / "merge")
    assert growing.exists()
    os.utime(growing / "lut.npy", (0, 0))
    os.utime(growing, (0, 0))
    write(tmp_path / "merge")
    assert not growing.exists()


def test_a_receipt_whose_bits_changed_is_refused(tmp_path: Path) -> None:
    path, values = tmp_path / "a.json", {"rule": "histogram", "mean": 128.5, "digest": "0f"}
    write_receipt(path, values)
    assert read_json(path) == values
    content = path.read_bytes()
    path.write_bytes(content.replace(b"128.5", b"129.5"))
    with pytest.raises(
        DamagedFileError, match=r"a\.json: is damaged \(its checksum is .* remove .*a\.json and run again"
    ):
        read_json(path)
    path.write_bytes(content[:-9])
    with pytest.raises(DamagedFileError, match=r"a\.json: is damaged"):
        read_json(path)


def test_arrays_whose_bits_changed_are_refused_with_the_name_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    save_arrays(path, {"a": np.arange(2000)})
    content = path.read_bytes()
    for at in range(40, len(content), 97):
        path.write_bytes(content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :])
        try:
            found = load_arrays(path, "a")["a"]
        except (DamagedFileError, ValueError) as error:
            assert str(path) in str(error)  # noqa: PT017
        else:
            np.testing.assert_array_equal(found, np.arange(2000))  # a bit that nobody reads, such as of a date


def test_the_file_is_named_where_the_system_does_not_name_it(tmp_path: Path) -> None:
    """`open` names the file in its error, `write` does not."""

    def full(file: IO[bytes]) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match=r"a\.json\.\w+\.partial"):
        write_with(tmp_path / "a.json", full)


def test_of_two_folders_written_at_once_the_last_one_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other writer comes in after the old folder was renamed, and before the new one gets its name."""
    folder, other, real = tmp_path / "a", tmp_path / "other", os.replace
    write_folder_with(folder, lambda new: (new / "a.npy").write_bytes(b"old"))
    other.mkdir()
    (other / "a.npy").write_bytes(b"other")

    def replace(source: Path, target: Path) -> None:
        if target == folder and other.exists():
            real(other, folder)
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    write_folder_with(folder, lambda new: (new / "a.npy").write_bytes(b"new"))
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (folder / "a.npy").read_bytes() == b"new"


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (OSError(5, "Input/output error"), "mine"),
        (OSError(5, "Input/output error", "theirs"), "theirs"),
        (OSError("no number, no name"), None),
    ],
    ids=["without a name", "with a name", "without a number"],
)
def test_an_error_of_the_system_gets_a_name_unless_it_has_one(error: OSError, name: str | None) -> None:
    with pytest.raises(OSError) as raised, named_errors(Path("mine")):
        raise error
    assert raised.value.filename == name
