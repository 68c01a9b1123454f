"""Files with a wrong ending, packages that are missing, and elements that are no numbers."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile

from tests.unit.volumes.readers.reading import refusal
from tests.unit.volumes.readers.small_volume import VALUES, written
from tests.unit.volumes.readers.writers import WRITERS
from unet.volumes.readers.open import FORMATS
from unet.volumes.readers.signatures import signature_of


def test_a_file_whose_ending_lies_is_told_by_its_first_bytes(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.mrc", VALUES)
    message = refusal(tmp_path / "a.mrc")
    assert "by its first bytes it is TIFF; give it the ending .tif" in message
    shutil.copy(tmp_path / "a.mrc", tmp_path / "a.data")
    assert "by its first bytes this is TIFF" in refusal(tmp_path / "a.data")
    (tmp_path / "a.tif").write_text("<!DOCTYPE html><html>sign in</html>")
    assert "it is a web page; the download has failed" in refusal(tmp_path / "a.tif")


@pytest.mark.parametrize("name", WRITERS)
def test_the_files_of_every_writer_have_their_signature(tmp_path: Path, name: str) -> None:
    path = Path(written(tmp_path / "a", name, VALUES[:, :, :].astype(WRITERS[name].dtypes[0])).partition(":")[0])
    found = signature_of(path)
    assert found is None or any(
        suffix.endswith(found.suffix) for one in FORMATS if one.name == WRITERS[name].format for suffix in one.suffixes
    )
    assert found is not None or path.is_dir() or path.suffix in (".nhdr", ".img")


def test_npy_of_no_numbers_or_of_objects_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([[{}]]), allow_pickle=True)
    np.save(tmp_path / "b.npy", VALUES.astype("c8"))
    for name in "ab":
        assert re.search(r"its elements are (object|complex64), no numbers", refusal(tmp_path / f"{name}.npy"))
