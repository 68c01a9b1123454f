"""Common ground of hostile runs: a small volume, its settings, a finished run, and runs in peace to compare with."""

import os
import shutil
from pathlib import Path
from typing import Any

import tifffile
import torch

from tests.scripts.hostile_chain import COMPARED, TABLES, HostileChain
from tests.scripts.job_server import JobServer
from unet.config.model import ModelConfig
from unet.geometry.box import Box
from unet.network.model import build_model
from unet.network.model_file import save_model
from unet.training.synthetic import synthesise

MODEL = ModelConfig(depth=2, base_channels=4, dropout=0)
SECTIONS, SIDE = 4, 64
CUTS = (
    {"storage": {"chunk": [1, 16, 16], "block": [2, 32, 32]}, "job_voxels": 4 * 2 * 32 * 32},
    {"storage": {"chunk": [1, 16, 16], "block": [1, 32, 64]}, "job_voxels": 3 * 32 * 64},
)
"""Blocks and jobs: 8 blocks in 2 jobs, and 8 blocks of another shape in 3 jobs."""
THRESHOLDS = (0.84, 0.95)


def configuration(folder: Path, cut: int = 0, threshold: int = 0) -> dict[str, Any]:
    """The settings of a run in a folder."""
    files = {"raw": f"{folder}/input/raw.tif", "labels": f"{folder}/input/labels.tif"}
    return {
        "volumes": {"train": {**files, "voxel_size_nm": [50, 4, 4]}},
        "storage": CUTS[cut]["storage"],
        "model": {"checkpoint": f"{folder}/input/model.pt", "normalisation": "none"},
        "train": {"volumes": []},
        "predict": {"job_voxels": CUTS[cut]["job_voxels"], "dashboard": False, "volumes": ["train"]},
        "evaluate": {"volumes": ["train"]},
        "segment": {"threshold": THRESHOLDS[threshold]},
    }


def write_input(folder: Path) -> None:
    """Write both versions of the intensities, of one size and the second of an older time; labels; a network."""
    (folder / "input").mkdir(parents=True)
    raw, labels = synthesise(sections=SECTIONS, size=SIDE, seed=3)
    other = raw.copy()
    other[1, 10:40, 20:50] //= 2
    for number, values in enumerate((raw, other)):
        path = folder / f"input/version-{number}.tif"
        tifffile.imwrite(path, values, photometric="minisblack")
        os.utime(path, (1_700_000_000 - 1000 * number,) * 2)
    tifffile.imwrite(folder / "input/labels.tif", labels, photometric="minisblack")
    shutil.copy2(folder / "input/version-0.tif", folder / "input/raw.tif")
    torch.manual_seed(0)
    save_model(folder / "input/model.pt", build_model(MODEL), MODEL, ["membrane", "interior"], normalisation={})


class Ground:
    """The server of jobs, the finished run that examples begin with, and the runs in peace to compare with."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.server = folder, JobServer({})
        self.steps, self.examples, self.found_by_error = 0, 0, 0
        self._peace: dict[tuple[int, int], dict[str, Any]] = {}
        self.input = folder / "input-of-all"
        write_input(self.input)
        self.run = self.new("run")
        self.run.run_until_done()
        self.kept, self.records = folder / "kept", dict(self.run.records)
        shutil.copytree(self.run.folder, self.kept)
        self.units = dict(self.run.units)

    def new(self, name: str) -> HostileChain:
        """A folder in which nothing was run."""
        folder = self.folder / name
        shutil.copytree(self.input, folder)
        return HostileChain(folder, self.server, configuration(folder))

    def fresh(self) -> HostileChain:
        """The finished run, in the folder in which it was made: its inputs are known by their paths."""
        shutil.rmtree(self.run.folder)
        shutil.copytree(self.kept, self.run.folder)
        chain = HostileChain(self.run.folder, self.server, configuration(self.run.folder))
        chain.records, chain.units = dict(self.records), dict(self.units)
        self.examples += 1
        return chain

    def peace(self, version: int, threshold: int) -> dict[str, Any]:
        """All voxels and tables of a run that nothing happened to, of these inputs and settings."""
        if (version, threshold) not in self._peace:
            chain = self.new(f"peace-{version}-{threshold}")
            shutil.copy2(chain.folder / f"input/version-{version}.tif", chain.folder / "input/raw.tif")
            chain.settings = configuration(chain.folder, threshold=threshold)
            assert chain.run_until_done() == []
            self._peace[version, threshold] = content(chain)
        return self._peace[version, threshold]


def content(chain: HostileChain) -> dict[str, Any]:
    """All voxels of the stores that are delivered, on all levels, and the tables of objects."""
    volume, found = chain.volume(), {}
    for store in COMPARED:
        image = volume.image(store)
        shape = image.shape
        for level, factor in enumerate(image.spec.factors):
            box = Box.of_shape(tuple(-(-n // f) for n, f in zip(shape, factor, strict=True)))
            found[f"{store}/{level}"] = image.read(box, level)
    return {**found, **{name: (chain.stores / name).read_text() for name in TABLES}}


def damage_file(path: Path, where: float, how: str) -> None:
    """Cut a file short, change one bit of it, or delete it. Its times stay, as where a disk does it."""
    content, times = path.read_bytes(), path.stat()
    if how == "delete" or not content:
        path.unlink()
        return
    at = int(where * len(content))
    flipped = content[:at] + bytes([content[at] ^ (1 << at % 8)]) + content[at + 1 :]
    path.write_bytes(content[:at] if how == "cut" else flipped)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
