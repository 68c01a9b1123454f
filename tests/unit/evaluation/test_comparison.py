"""Reference segmentations: one that cannot be compared is refused by its header."""

from pathlib import Path

import numpy as np
import pytest
import tifffile

from unet.config.volumes import VolumeConfig
from unet.volumes.readers.errors import SourceError
from unet.volumes.sources import open_in_volume


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.ones((2, 7, 9), np.uint16), r"p\.tif: shape \(2, 7, 9\), but .*raw\.tif has shape \(2, 8, 9\)"),
        (np.ones((2, 8, 9), np.float32), r"p\.tif: dtype float32, but a segmentation holds ids"),
    ],
)
def test_what_is_no_segmentation_of_the_same_voxels_is_refused(
    tmp_path: Path, values: np.ndarray, message: str
) -> None:
    raw, reference = tmp_path / "raw.tif", tmp_path / "p.tif"
    tifffile.imwrite(raw, np.ones((2, 8, 9), np.uint8), photometric="minisblack")
    tifffile.imwrite(reference, values, photometric="minisblack")
    volume = VolumeConfig(raw=str(raw), voxel_size_nm=(50, 4, 4), compare={"reference": str(reference)})
    with pytest.raises(SourceError, match=message):
        open_in_volume(volume, volume.compare["reference"])
    tifffile.imwrite(reference, np.ones((2, 8, 9), np.uint32), photometric="minisblack")
    assert open_in_volume(volume, volume.compare["reference"]).dtype == np.uint32
