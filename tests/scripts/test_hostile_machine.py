"""Whatever happens to a run, in any order: rerun until done, it has the voxels of a run in peace, or says the cause.

Each example begins with a finished run. Then jobs are killed at any byte, and disks are full or closed to writing. Any
file of the results is cut short, changed by one bit or deleted. Settings and inputs are changed and changed back.
Clocks are set back, and two processes do the same job.

    UNET_EM_HOSTILE_SECONDS=3600 pytest -m slow tests/scripts/test_hostile_machine.py
"""

import os
import shutil
import signal
import time
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, note, settings
from hypothesis import seed as seeded_by
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from tests.scripts.hostile_chain import JobFailed, expect, made_twice
from tests.scripts.hostile_ground import Ground, configuration, content, damage_file

HOURS = 3600 * 10**9
fractions = st.floats(0, 1, exclude_max=True)


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
        """Choose what is to be run; where that is nothing, the user removes what a rule has made."""
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
        """Let `verify` find what no rule has read since."""
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
@pytest.mark.timeout(0)
def test_for_an_hour_whatever_happens_it_ends_as_in_peace(ground: Ground) -> None:
    end, seed = time.monotonic() + float(os.environ.get("UNET_EM_HOSTILE_SECONDS", "3600")), 0
    seed = int(os.environ.get("UNET_EM_HOSTILE_SEED", "0"))
    while time.monotonic() < end:
        play(ground, examples=5, seed=seed, steps=12)
        seed += 1
        print(f"seed {seed}: {ground.examples} examples, {ground.steps} steps", flush=True)
