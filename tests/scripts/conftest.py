"""Scripts run as jobs, in this process: a volume's folder, its configuration, and what a job leaves."""

import importlib.util
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.scripts.calls import Call, calls_noted
from unet.config.root import Config, load_config
from unet.geometry.box import Box
from unet.jobs.script import run_script
from unet.storage.files import read_json, write_json
from unet.volumes.volume import Volume

SCRIPTS = Path(__file__).parents[2] / "scripts"
BASE: dict[str, Any] = {
    "storage": {"chunk": [1, 16, 16], "block": [1, 32, 32]},
    "model": {"depth": 2, "base_channels": 4, "normalisation": "batch", "dropout": 0},
    "train": {"tile": 28, "steps": 8, "batch": 2, "optimizer": "adamw", "learning_rate": 0.01},
    "predict": {"tile": 28},
}


@cache
def main_of(name: str) -> Callable[..., None]:
    """`main` of a script."""
    spec = importlib.util.spec_from_file_location(f"script_{name}", SCRIPTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    main: Callable[..., None] = module.main
    return main


class Refused(Exception):
    """A job ended before its time: its readable lines, of which there should be one, and its exit status."""


@dataclass
class Project:
    """A folder with input files, and the results of the jobs that ran."""

    folder: Path
    settings: dict[str, Any] = field(default_factory=dict)
    rule_of_model: dict[str, Any] | None = None

    @property
    def config(self) -> Config:
        """The configuration: `BASE` and what the test sets."""
        sections = {key: {**BASE.get(key, {}), **self.settings.get(key, {})} for key in {*BASE, *self.settings}}
        return load_config({"results": str(self.folder / "results"), **sections})

    def job(self, rule: str, receipt: Path, **arguments: Any) -> Any:
        """Run a script as a rule would, with its receipt as output; returns the receipt."""
        log = self.folder / "results" / "logs" / f"{rule}.log"
        values = json.loads(json.dumps(arguments, default=str))
        snakemake = SimpleNamespace(input={}, output={"receipt": receipt}, params=values, log=[str(log)], threads=1)
        try:
            run_script(main_of(rule), snakemake)
        except SystemExit as ended:
            lines = [text.partition(" ERROR ")[2] for text in log.read_text().splitlines() if " ERROR " in text]
            raise Refused(*lines, f"exit status {ended.code}") from None
        return read_json(receipt) if receipt.exists() else None

    def receipt(self, rule: str, *path: str) -> Path:
        """Return the path of a job's receipt."""
        return self.folder / "results" / "receipts" / Path(rule, *path).with_suffix(".json")

    def checked(self, volume: str) -> list[Path]:
        """The receipt of `check_labels`; if there is none, one is written that holds no section back."""
        path = self.receipt("check_labels", volume)
        if not path.exists():
            write_json(path, {"rule": "check_labels", "digest": "0", "held_back": []})
        return [path]

    def stores(self, volume: str) -> Path:
        """The folder of a volume's stores."""
        return self.folder / "results" / "volumes" / volume

    def volume(self, name: str) -> Volume:
        """An ingested volume."""
        return Volume.open(self.stores(name), self.receipt("survey", name))

    def array(self, volume: str, store: str) -> np.ndarray:
        """All voxels of a store."""
        image = self.volume(volume).image(store)
        return image.read(Box.of_shape(image.shape))

    def block_ranges(self, volume: str, rule: str = "") -> list[str]:
        """All block ranges of a rule: two, where there are blocks for them."""
        layout = self.volume(volume).layout
        together = layout.ingested_together if rule == "ingest" else 1
        count = min(2, -(-len(layout.grid) // together))
        return [f"{number}-of-{count}" for number in range(count)]

    # The chain

    def survey(self, name: str) -> Any:
        """Read the headers."""
        config, receipt = self.config, self.receipt("survey", name)
        arguments = {"volume": config.volumes[name].model_dump(), "storage": config.storage.model_dump()}
        return self.job("survey", receipt, name=name, code="one", **arguments)

    def each_range(self, rule: str, name: str, *path: str, **arguments: Any) -> list[Path]:
        """Run a rule on every block range; returns the receipts."""
        receipts = []
        for block_range in self.block_ranges(name, rule):
            receipts.append(self.receipt(rule, name, *path, block_range))
            fixed = {"survey": self.receipt("survey", name), "folder": self.stores(name), "block_range": block_range}
            own = {k: v(block_range) if callable(v) else v for k, v in arguments.items()}
            self.job(rule, receipts[-1], **fixed, **own, code="one")
        return receipts

    def ingest(self, name: str) -> list[Path]:
        """Survey and ingest; returns the receipts of the block ranges."""
        self.survey(name)
        return self.each_range("ingest", name, volume=self.config.volumes[name].model_dump())

    def intensity_statistics(self, name: str) -> Any:
        """All up to the frozen statistics; returns these."""
        block_ranges = self.ingest(name)
        counted = self.each_range("histogram", name)
        receipt, survey = self.receipt("intensity_statistics", name), self.receipt("survey", name)
        check_model = self.receipt("check_model", name)
        write_json(check_model, {"normalisation": self.rule_of_model, "dimensions": self.config.model.dimensions})
        rule = self.config.normalisation.model_dump()
        files = {"survey": survey, "check_model": check_model, "block_ranges": block_ranges, "counted": counted}
        return self.job("intensity_statistics", receipt, **files, normalisation=rule)["statistics"]


@dataclass
class NotedProject(Project):
    """A project that notes what its jobs call, by rule."""

    calls: dict[str, set[Call]] = field(default_factory=dict)

    def job(self, rule: str, receipt: Path, **arguments: Any) -> Any:
        """Run a job as in any project, and note its calls."""
        with calls_noted(self.calls.setdefault(rule, set())):
            return super().job(rule, receipt, **arguments)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """An empty project."""
    return Project(tmp_path)


@contextmanager
def disk_of(folder: Path, megabytes: int) -> Iterator[Path]:
    """Mount a file system of a size in a folder, which is made."""
    folder.mkdir()
    if os.system(f"mount -t tmpfs -o size={megabytes}m tmpfs {folder} 2>/dev/null") != 0:
        pytest.skip("only root, and not on every machine, may mount a small file system")
    yield folder
    os.system(f"umount -l {folder}")


@pytest.fixture(scope="session")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Ground that all hostile runs share: a `tests.scripts.hostile_ground.Ground`."""
    from tests.scripts.hostile_ground import Ground  # which imports this module

    ground = Ground(tmp_path_factory.mktemp("hostile"))
    yield ground
    ground.server.close()
