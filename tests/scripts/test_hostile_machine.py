"""Whatever happens to a run, in any order: rerun until done, it has the voxels of a run in peace, or says the cause.

Each example begins with a finished run. Then jobs are killed at any byte, disks are full or closed to writing, any file
of the results is cut short, changed by one bit or deleted, settings and inputs are changed and changed back, clocks
are set back, and two processes do the same job.

    UNET_EM_HOSTILE_SECONDS=3600 pytest -m slow tests/scripts/test_hostile_machine.py
"""

import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import tifffile
import torch
from hypothesis import HealthCheck, Phase, note, settings
from hypothesis import seed as seeded_by
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from tests.scripts.hostile_chain import COMPARED, TABLES, HostileChain, JobFailed, expect, made_twice
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
HOURS = 3600 * 10**9
fractions = st.floats(0, 1, exclude_max=True)


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
        self.run = self._new("run")
        self.run.run_until_done()
        self.kept, self.records = folder / "kept", dict(self.run.records)
        shutil.copytree(self.run.folder, self.kept)
        self.units = dict(self.run.units)

    def _new(self, name: str) -> HostileChain:
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
            chain = self._new(f"peace-{version}-{threshold}")
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


class HostileRun(RuleBasedStateMachine):
    """A run that everything happens to."""

    ground: ClassVar[Ground]

    @initialize()
    def begin(self) -> None:
        self.chain = self.ground.fresh()
        self.version, self.cut, self.threshold = 0, 0, 0
        self.damaged, self.store_lost = False, False

    def _configure(self) -> None:
        self.chain.settings = configuration(self.chain.folder, self.cut, self.threshold)

    def _work(self, which: float) -> list[Any]:
        """What is to be run; where that is nothing, the user removes what a rule has made."""
        self.ground.steps += 1
        if not (jobs := self.chain.plan()):
            rules = sorted({path.name for path in (self.chain.results / "receipts").iterdir()} - {"verify"})
            removed = rules[int(which * len(rules))]
            note(f"# nothing to do; the receipts and journals of {removed} are removed")
            shutil.rmtree(self.chain.results / "receipts" / removed)
            self.store_lost = True
            jobs = self.chain.plan()
        return jobs

    def _until(self, which: float, moment: float, kind: str) -> None:
        """Run some jobs in peace, and one that something happens to."""
        jobs = self._work(which)
        number = int(which * len(jobs))
        for position, job in enumerate(jobs[: number + 1]):
            last = position == number
            after = int(moment * self.chain.units.get(job.rule, 5000))
            fault = {"kind": kind, "after": after, "below": str(self.chain.results)} if last else None
            try:
                self.chain.run_job(job, fault)
            except JobFailed as failed:
                note(f"# {job.rule}: {failed.ended.status} {failed.error}")
                if last and failed.ended.status != -signal.SIGKILL:
                    self._expect(failed, kind)
                elif not last:
                    self._expect(failed)
                return

    def _expect(self, failed: JobFailed, kind: str = "damage") -> None:
        """Require an error that names what happened and where; do what it asks for where something was damaged."""
        expected = {"full": "No space left on device", "denied": "Permission denied"}.get(kind, "/")
        if self.damaged and expected not in failed.error:
            kind = "damage"  # met before the disk was full
        expect(failed, str(self.chain.results), *([expected] if kind != "damage" else []))
        if kind == "damage":
            assert self.damaged, str(failed)
            self.chain.follow(failed.error)

    @rule(which=fractions, moment=fractions)
    def kill(self, which: float, moment: float) -> None:
        self._until(which, moment, "kill")

    @rule(which=fractions, moment=fractions)
    def fill_the_disk(self, which: float, moment: float) -> None:
        self._until(which, moment, "full")

    @rule(which=fractions, moment=fractions)
    def take_permission_away(self, which: float, moment: float) -> None:
        self._until(which, moment, "denied")

    @rule(which=fractions)
    def two_at_once(self, which: float) -> None:
        jobs = self._work(which)
        for job in jobs[: int(which * len(jobs)) + 1]:
            try:
                self.chain.run_job(job, copies=2)
            except JobFailed as failed:
                self._expect(failed)
                return

    @rule(which=fractions, where=fractions, how=st.sampled_from(["cut", "flip", "flip", "delete"]))
    def damage(self, which: float, where: float, how: str) -> None:
        self.ground.steps += 1
        folders = [self.chain.results / name for name in ("receipts", "volumes")]
        files = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
        files = [path for path in files if not path.name.startswith(".")]
        path = files[int(which * len(files))]
        note(f"# {how} {path.relative_to(self.chain.results)} at {where:.3f}")
        damage_file(path, where, how)
        self.damaged = True
        self.store_lost |= path.name == "zarr.json"

    @rule()
    def change_the_threshold(self) -> None:
        self.ground.steps += 1
        self.threshold = 1 - self.threshold
        self._configure()

    @rule()
    def change_the_cut(self) -> None:
        self.ground.steps += 1
        self.cut, self.store_lost = 1 - self.cut, True
        self._configure()

    @rule()
    def replace_an_input(self) -> None:
        """As with `cp -p`: the size is the same, and the time that of the other file, which may be older."""
        self.ground.steps += 1
        self.version = 1 - self.version
        shutil.copy2(self.chain.folder / f"input/version-{self.version}.tif", self.chain.folder / "input/raw.tif")

    @rule(name=st.sampled_from(["raw.tif", "labels.tif", "model.pt"]))
    def touch_an_input(self, name: str) -> None:
        self.ground.steps += 1
        (self.chain.folder / "input" / name).touch()

    @rule(hours=st.sampled_from([-5, 5]), every=st.integers(1, 3))
    def set_the_clock(self, hours: int, every: int) -> None:
        """Files of the results get other times, all of them or some: another clock has written them."""
        self.ground.steps += 1
        for path in sorted(self.chain.results.rglob("*"))[::every]:
            if path.is_file():
                found = path.stat()
                os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns + hours * HOURS))

    @rule()
    def rerun_until_done(self) -> None:
        self.ground.steps += 1
        before = self.chain.intact()
        errors = self.chain.run_until_done()
        assert self.damaged or not errors, errors
        twice = made_twice(before, self.chain.intact())
        assert self.store_lost or not twice, twice
        if self.damaged:
            self._verify()
        self.ground.found_by_error += len(errors)
        expected, found = self.ground.peace(self.version, self.threshold), content(self.chain)
        for name, values in expected.items():
            np.testing.assert_array_equal(found[name], values, err_msg=name)
        self.damaged = self.store_lost = False

    def _verify(self) -> None:
        """What no rule has read since, `verify` finds."""
        for _ in range(10):
            error = self.chain.verify()
            if error is None:
                return
            note(f"# verify: {error}")
            self.chain.follow(error)
            self.chain.run_until_done()
        raise AssertionError(error)

    def teardown(self) -> None:
        if hasattr(self, "chain"):
            self.rerun_until_done()


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


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    """What all examples share."""
    ground = Ground(tmp_path_factory.mktemp("hostile"))
    yield ground
    ground.server.close()


def play(ground: Ground, examples: int, seed: int, steps: int = 8) -> None:
    """Run some examples."""

    class Machine(HostileRun):
        pass

    Machine.ground = ground
    health = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    how = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=health,
        print_blob=False,
    )
    run_state_machine_as_test(seeded_by(seed)(Machine), settings=how)


def test_whatever_happens_it_ends_as_in_peace_or_says_why(ground: Ground) -> None:
    play(ground, examples=6, seed=20261127)


@pytest.mark.slow
def test_for_an_hour_whatever_happens_it_ends_as_in_peace(ground: Ground) -> None:
    end, seed = time.monotonic() + float(os.environ.get("UNET_EM_HOSTILE_SECONDS", "3600")), 0
    seed = int(os.environ.get("UNET_EM_HOSTILE_SEED", "0"))
    while time.monotonic() < end:
        play(ground, examples=5, seed=seed, steps=12)
        seed += 1
        print(f"seed {seed}: {ground.examples} examples, {ground.steps} steps", flush=True)
