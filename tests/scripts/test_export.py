"""The export as a job: files that open elsewhere, and a receipt that says how near they come."""

import zipfile

import numpy as np
import pytest
import tifffile
import torch

from unet.config.model import ModelConfig
from unet.network.model import build_model
from unet.network.model_file import save_model

CONFIG = ModelConfig(depth=2, base_channels=2)


def save(path, **header):
    torch.manual_seed(0)
    statistics = {"trained_on": {"train": [{"centre": 128.0, "scale": 40.0, "fill_values": []}]}}
    arguments = {"normalisation": statistics, "voxel_size_nm": (50.0, 4.0, 4.0), **header}
    save_model(path, build_model(CONFIG), CONFIG, ["membrane", "interior"], **arguments)
    return path


def export(project, model, volumes=()):
    names = {"onnx": "model.onnx", "package": "bioimageio.zip"}
    files = {key: project.folder / name for key, name in names.items()}
    surveys = [project.receipt("survey", name) for name in volumes]
    folders = [project.stores(name) for name in volumes]
    receipt = project.receipt("export", "model")
    claims = {"authors": ["A. Nyone"], "license": "CC-BY-4.0"}
    jobs = {"model": model, "surveys": surveys, "folders": folders, "export": claims}
    return project.job("export", receipt, **jobs, **files, code="one")


def test_the_test_tile_is_cut_from_the_middle_of_a_volume(project):
    grey = np.random.default_rng(0).integers(0, 255, (3, 150, 140)).astype(np.uint8)
    tifffile.imwrite(project.folder / "raw.tif", grey, photometric="minisblack")
    project.settings = {"volumes": {"train": {"raw": str(project.folder / "raw.tif"), "voxel_size_nm": [50, 4, 4]}}}
    project.settings |= {"train": {"volumes": []}, "model": {"checkpoint": "model.pt"}}
    project.intensity_statistics("train")
    done = export(project, save(project.folder / "model.pt"), ["train"])
    assert max(done["largest_difference"].values()) < 1e-5
    with np.load(project.folder / "bioimageio.zip") as archive:
        tile = archive["input"]
    with zipfile.ZipFile(project.folder / "bioimageio.zip") as archive:
        assert b"license: CC-BY-4.0" in archive.read("rdf.yaml")
    side = tile.shape[-1]
    y, x = (150 - side) // 2, (140 - side) // 2
    assert tile.shape == (1, 1, side, side)
    inner = (slice(max(0, y), y + side), slice(max(0, x), x + side))
    shown = tile[0, 0, max(0, -y) :, max(0, -x) :][: 150 - max(0, y), : 140 - max(0, x)]
    np.testing.assert_array_equal(shown, grey[1][inner])


def test_a_model_that_does_not_tell_its_grey_values_is_refused_in_one_line(project):
    with pytest.raises(Exception, match="does not tell the grey values that it was trained on"):
        export(project, save(project.folder / "model.pt", normalisation={}))
