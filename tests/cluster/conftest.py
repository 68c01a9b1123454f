"""The workflow on a real SLURM: one is started for all tests here, and they are skipped where that cannot be."""

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster import slurm as testbed
from tests.cluster.slurm import Job, Slurm
from tests.scripts.test_predict import ingested, whole  # noqa: F401
from tests.workflow.conftest import ROOT, Project, Running

PATIENCE = 1200
"""Seconds for what should take some, on a machine that does other things too."""
OURS = yaml.safe_load((ROOT / "workflow" / "profiles" / "slurm" / "config.yaml").read_text())
"""The profile that a lab copies."""


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    """A SLURM of one node with two GPUs."""
    reason = testbed.cannot_run()
    if reason is not None:
        pytest.skip(f"no SLURM for tests: {reason}")
    with testbed.running(tmp_path_factory.mktemp("slurm")) as started:
        yield started


def profile(**rules: dict[str, Any]) -> dict[str, Any]:
    """The profile that a lab copies, with what it would change for the SLURM of the tests, and resources of rules."""
    ours, main = OURS["set-resources"], {"slurm_partition": "main"}
    resources = {rule: {**ours.get(rule, {}), **main, **rules.get(rule, {})} for rule in {*ours, *rules}}
    return {
        **OURS,
        "latency-wait": 10,
        "slurm-no-account": True,
        "slurm-status-command": "squeue",
        "slurm-init-seconds-before-status-checks": 2,
        "default-resources": main,
        "set-resources": resources,
    }


@dataclass(frozen=True)
class OnSlurm(Project):
    """A project whose jobs are those of a SLURM; `slurm` is always given."""

    slurm: Slurm = None  # type: ignore[assignment]
    started: list[Running] = field(default_factory=list)

    def use(self, values: dict[str, Any]) -> None:
        """Write the profile that its runs use."""
        (self.folder / "profile").mkdir(exist_ok=True)
        (self.folder / "profile" / "config.yaml").write_text(yaml.safe_dump(values))

    def start(self, *arguments: str, **how: Any) -> Running:
        """Start Snakemake as a project does, on SLURM; its output goes to a file."""
        said = self.folder / "said.txt"
        self.started.append(super().start("--workflow-profile", "profile", *arguments, output=said))
        return self.started[-1]

    def finish(self, *arguments: str) -> None:
        """Wait for the end of the run started last, or start one; it has to end well."""
        process = self.start(*arguments) if arguments else self.started[-1]
        status = process.wait(PATIENCE)
        assert status == 0, (self.folder / "said.txt").read_text()

    def wait_for(self, what: Callable[[], Any], why: str, every: float = 0.3) -> Any:
        """Wait until `what()` is something while the run goes on, and return that."""
        deadline = time.monotonic() + PATIENCE
        while not (found := what()):
            said = self.folder / "said.txt"
            assert self.started[-1].poll() is None, f"the run has ended: {why}\n{said.read_text()}"
            assert time.monotonic() < deadline, f"after {PATIENCE} s: {why}\n{said.read_text()}"
            time.sleep(every)
        return found

    def kill(self) -> None:
        """End all that was started and has not ended; SLURM's jobs go on."""
        for process in self.started:
            if process.poll() is None:
                process.kill()
                process.wait()

    def forget(self, *rules: str, stores: tuple[str, ...] = ()) -> None:
        """Remove what some rules have made of the volume, and said."""
        for rule in rules:
            shutil.rmtree(self.results / "receipts" / rule)
            shutil.rmtree(self.results / "logs" / rule)
        for store in stores:
            shutil.rmtree(self.store(store))

    def jobs(self, rule: str, states: str = "PENDING,RUNNING,COMPLETING") -> dict[str, list[Job]]:
        """The jobs of a rule by their block range, or the last of their wildcards."""
        found: dict[str, list[Job]] = {}
        for job in self.slurm.jobs(self.folder, states):
            if job.comment.startswith(f"rule_{rule}_"):
                found.setdefault(job.comment.rpartition("_")[2], []).append(job)
        return found

    def held(self, rule: str, block_range: str) -> tuple[str, int]:
        """Hold a block range's job by SIGSTOP once its first block is recorded; returns its number and its process."""

        def started() -> tuple[str, int] | None:
            for job in self.jobs(rule, "RUNNING").get(block_range, []):
                script = self.script(job.number)
                return (job.number, script) if script else None
            return None

        number, script = self.wait_for(started, f"{rule} {block_range} does not start")
        journal = self.results / "receipts" / rule / "train" / f"{block_range}.jsonl"
        self.wait_for(lambda: journal.exists() and journal.stat().st_size, f"{journal} stays empty", every=0.002)
        os.kill(script, signal.SIGSTOP)
        return number, script

    def wait_for_line(self, text: str, rule: str, block_range: str, every: float = 0.3) -> None:
        """Wait until the log of a block range's job holds some text; the next job begins the log anew."""
        log = self.results / "logs" / rule / "train" / f"{block_range}.log"

        def says() -> bool:
            try:
                return text in log.read_text(errors="replace")
            except FileNotFoundError:
                return False

        self.wait_for(says, f"{log} does not say {text!r}", every)

    def script(self, number: str) -> int | None:
        """The process of the script that a SLURM job runs; None before that."""
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                is_script = b"/.snakemake/scripts/" in (entry / "cmdline").read_bytes()
                variables = (entry / "environ").read_bytes().split(b"\0")
            except OSError:
                continue  # ended meanwhile
            if is_script and f"SLURM_JOB_ID={number}".encode() in variables:
                return int(entry.name)
        return None
