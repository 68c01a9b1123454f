"""Errors tell why a file cannot be read and what to do, for real files and real libraries."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import imagecodecs
import mrcfile
import numpy as np
import pytest
import tifffile
import zarr

from unet.geometry.box import Box
from unet.storage.error_causes import CAUSES, DAMAGED, cause_of
from unet.volumes.readers.errors import SourceError, read_errors
from unet.volumes.readers.open import open_source

VALUES = np.random.default_rng(0).integers(0, 4000, (2, 64, 64)).astype(np.uint16)
NOBODY = 65534


def message_of(address: Path | str) -> str:
    """Return the message with which a volume is refused, by its headers or by its voxels."""

    def read() -> None:
        source = open_source(str(address))
        source.check(Box.of_shape(source.shape))
        source.read(Box.of_shape(source.shape))

    with pytest.raises(SourceError) as refused:
        read()
    return str(refused.value)


def hdf5(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        file.create_dataset("raw", data=VALUES, chunks=(1, 64, 64), compression="gzip")
    return path


def tiff(path: Path) -> Path:
    tifffile.imwrite(path, VALUES[0], compression="zlib")
    return path


def png(path: Path) -> Path:
    path.write_bytes(imagecodecs.png_encode(VALUES[0]))
    return path


def mrc(path: Path) -> Path:
    with mrcfile.new(path) as file:
        file.set_data(VALUES)
    return path


def zarr_store(path: Path) -> Path:
    zarr.create_array(str(path), data=VALUES, chunks=(1, 64, 64), zarr_format=2)
    return path


def cut(path: Path, size: int) -> Path:
    path.write_bytes(path.read_bytes()[:size])
    return path


def overwritten(path: Path, at: int, content: bytes) -> Path:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(content)
    return path


@contextmanager
def open_elsewhere(path: Path) -> Iterator[None]:
    """The file is open for writing in another process."""
    code = "import sys, h5py; file = h5py.File(sys.argv[1], 'a'); print(flush=True); sys.stdin.read()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    holder = subprocess.Popen([sys.executable, "-c", code, str(path)], **pipes)  # type: ignore[call-overload]
    holder.stdout.readline()
    yield
    holder.communicate()


def test_hdf5_that_another_program_writes(tmp_path: Path) -> None:
    with open_elsewhere(hdf5(tmp_path / "a.h5")):
        message = message_of(f"{tmp_path}/a.h5:/raw")
    assert "a.h5: cannot be read as HDF5, another program has it open for writing (BlockingIOError: " in message
    assert "close it there and run again" in message
    assert "HDF5_USE_FILE_LOCKING=FALSE" in message


def test_hdf5_of_an_unknown_filter_is_told_by_its_header(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        space, created = h5py.h5s.create_simple((1, 64, 64)), h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        created.set_chunk((1, 64, 64))
        created.set_filter(31999, h5py.h5z.FLAG_OPTIONAL)
        h5py.h5d.create(file.id, b"raw", h5py.h5t.NATIVE_UINT16, space, created)
    with pytest.raises(SourceError, match=r"a.h5:/raw: compressed by HDF5 filter 31999 .*h5repack -f GZIP"):
        open_source(f"{tmp_path}/a.h5:/raw")


@contextmanager
def unreadable(path: Path) -> Iterator[None]:
    """Nobody may read the file; root, who may read all, is somebody else meanwhile."""
    path.chmod(0)
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)


@pytest.mark.parametrize("make", [hdf5, tiff, png, mrc])
def test_a_file_without_permission(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    path = make(tmp_path / f"a.{make.__name__}")
    open_source(str(path) + (":/raw" if make is hdf5 else ""))  # loads what is loaded when it is needed
    with unreadable(path), pytest.raises(SourceError) as refused, read_errors(path, "it"):
        path.read_bytes() if make in (png, mrc) else (h5py.File if make is hdf5 else tifffile.TiffFile)(path)
    assert f"{path}: cannot be read as it, you may not read it (PermissionError" in str(refused.value)


BROKEN = {
    "hdf5 cut short": (lambda d: f"{cut(hdf5(d / 'a.h5'), 5000)}:/raw", "as HDF5, it is cut short"),
    "hdf5 without its header": (lambda d: f"{cut(hdf5(d / 'a.h5'), 10)}:/raw", "as HDF5, it is cut short"),
    "hdf5 that is a tiff": (lambda d: f"{tiff(d / 'a.h5')}:/raw", "as HDF5, it is of another format"),
    "empty hdf5": (lambda d: f"{cut(hdf5(d / 'a.h5'), 0)}:/raw", "as HDF5, it is empty"),
    "hdf5 with a damaged chunk": (lambda d: f"{_damaged(hdf5(d / 'a.h5'))}:/raw", "as HDF5, it is damaged"),
    "tiff cut short": (lambda d: cut(tiff(d / "a.tif"), 100), "as TIFF, it is cut short"),
    "tiff that is a png": (lambda d: png(d / "a.tif"), "as TIFF, it is of another format"),
    "empty tiff": (lambda d: cut(tiff(d / "a.tif"), 0), "as TIFF, it is empty"),
    "tiff of an unknown compression": (lambda d: _compressed(tiff(d / "a.tif"), 12345), "no library here can read"),
    "tiff of a compression without a reader": (lambda d: _compressed(tiff(d / "a.tif"), 34676), "no library here can"),
    "png with damaged pixels": (lambda d: overwritten(png(d / "a.png"), 60, bytes(40)), "as PNG, it is damaged"),
    "mrc cut short": (lambda d: cut(mrc(d / "a.mrc"), 500), "as MRC, it is cut short"),
    "mrc that is text": (lambda d: overwritten(mrc(d / "a.mrc"), 0, b"x" * 1024), "as MRC, it is of another format"),
    "zarr of an unknown codec": (lambda d: _recoded(zarr_store(d / "a.zarr")), "no library here can read"),
    "zarr with a damaged chunk": (lambda d: cut(zarr_store(d / "a.zarr") / "0.0.0", 10).parent, "it is damaged"),
}


def _damaged(path: Path) -> Path:
    with h5py.File(path) as file:
        at = file["raw"].id.get_chunk_info(0).byte_offset
    return overwritten(path, at + 5, b"\xff" * 50)


def _compressed(path: Path, number: int) -> Path:
    with tifffile.TiffFile(path) as file:
        at = file.pages[0].tags["Compression"].valueoffset  # type: ignore[union-attr]
    return overwritten(path, at, number.to_bytes(2, "little"))


def _recoded(path: Path) -> Path:
    metadata = json.loads((path / ".zarray").read_text())
    (path / ".zarray").write_text(json.dumps(metadata | {"compressor": {"id": "of-somebody"}}))
    return path


@pytest.mark.parametrize(("make", "cause"), BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_named_with_its_cause(tmp_path: Path, make: Callable[[Path], str], cause: str) -> None:
    address = str(make(tmp_path))
    message = message_of(address)
    assert message.startswith(address.partition(":/")[0])
    assert cause in message


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (OSError(errno.ENOLCK, "Unable to open file (unable to lock file, errno = 37)"), "does not know file locks"),
        (OSError(errno.EIO, "Input/output error"), "does not answer"),
        (MemoryError(), "not enough memory"),
        (FileNotFoundError(2, "No such file"), "not there"),
    ],
)
def test_causes_that_no_file_shows(error: Exception, what: str) -> None:
    assert what in cause_of(error).what


def test_what_no_cause_explains_is_called_damaged() -> None:
    assert cause_of(ValueError("shapes (3,) and (4,)")) is DAMAGED


def test_every_cause_says_what_to_do() -> None:
    assert len({cause.what for cause in CAUSES}) == len(CAUSES)
    assert all(cause.advice for cause in CAUSES)


def test_the_error_of_the_library_is_its_cause(tmp_path: Path) -> None:
    with pytest.raises(SourceError) as refused:
        open_source(str(cut(tiff(tmp_path / "a.tif"), 100)))
    assert isinstance(refused.value.__cause__, tifffile.TiffFileError)
