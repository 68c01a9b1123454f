"""The chain from image files to tables of objects, run as Snakemake runs it, on a disk and in processes that fail.

Inputs of jobs, markers of damage and changes of the user's files come from `unet.run`, as in the workflow. Which job
runs is decided as Snakemake decides: its output is missing or incomplete; its parameters or the set of its inputs are
others; an input is newer than the output and its content is not what Snakemake has recorded; a job before it runs.
"""

import hashlib
import json
import re
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from tests.scripts.conftest import BASE
from tests.scripts.job_server import DEFECT, Ended, JobServer
from unet.config.root import Config, load_config
from unet.jobs.blockwise import digest_of_block
from unet.jobs.journal import BlockRecord, Journal
from unet.run.changes import (
    InputChanges,
    KnownLayouts,
    damaged_receipts,
    remove_unreadable_receipts,
    show_hidden_changes,
)
from unet.run.inputs import RunInputs
from unet.run.parameters import (
    asked_of_model,
    asked_of_normalisation,
    compared_model,
    given_model,
    segment_settings,
    settings,
    volume_settings,
)
from unet.volumes.integrity import StaleMarkers
from unet.volumes.volume import Volume

NAME = "train"
STORES = {
    "raw": "ingest",
    "labels": "ingest",
    "targets": "targets",
    "weights": "weight_map",
    "probability": "predict",
    "segmentation-fragments": "segment",
    "segmentation-tables/objects": "measure",
    "segmentation-tables/merge": "merge",
    "segmentation-tables": "segment",
    "segmentation": "relabel",
}
"""The rule that writes a store; a longer name comes before a shorter one that it begins with."""
COMPARED = ("raw", "labels", "targets", "weights", "probability", "segmentation")
TABLES = ("objects.csv", "contacts.csv")
ATTEMPTS = 12
"""Runs after which a run that follows the advice of its errors has to be done."""


@dataclass
class Job:
    """A job of the run: what Snakemake knows of it."""

    rule: str
    receipt: Path
    params: dict[str, Any]
    inputs: dict[str, Any]
    tables: list[Path] = field(default_factory=list)

    @property
    def files(self) -> list[Path]:
        """All input files."""
        given = (value if isinstance(value, list) else [value] for value in self.inputs.values())
        return [Path(path) for path in chain.from_iterable(given)]

    @property
    def outputs(self) -> list[Path]:
        """Declared outputs, which Snakemake removes before the job begins and after it has failed."""
        return [self.receipt, *self.tables]


@dataclass
class Record:
    """A record of Snakemake about a finished job: parameters, inputs, and the content of the inputs."""

    params: str
    inputs: list[str]
    checksums: dict[str, str]


class JobFailed(Exception):
    """A job has failed; its rule, how it ended, and its error."""

    def __init__(self, job: Job, ended: Ended, error: str) -> None:
        super().__init__(f"{job.rule}: status {ended.status}: {error}\n{ended.said}")
        self.job, self.ended, self.error = job, ended, error


class HostileChain:
    """A folder with input files and results, whose jobs run on a server of jobs.

    Parameters
    ----------
    folder : the input files are in `input`, the results in `results`
    server : runs the jobs
    settings : sections of the configuration
    """

    def __init__(self, folder: Path, server: JobServer, settings: dict[str, Any]) -> None:
        self.folder, self.server, self.settings = folder, server, settings
        self.records: dict[Path, Record] = {}
        self.incomplete: set[Path] = set()
        self.units: dict[str, int] = {}
        self.ran: list[str] = []

    # What a run knows

    @property
    def results(self) -> Path:
        """Everything that is written."""
        return self.folder / "results"

    @property
    def stores(self) -> Path:
        """The folder of the volume's stores."""
        return self.results / "volumes" / NAME

    @property
    def config(self) -> Config:
        """The configuration."""
        sections = {key: {**BASE.get(key, {}), **self.settings.get(key, {})} for key in {*BASE, *self.settings}}
        del sections["train"]["steps"]
        return load_config({"results": str(self.results), **sections})

    def volume(self) -> Volume:
        """The volume, once it is surveyed."""
        return Volume.open(self.stores, self.results / "receipts/survey" / f"{NAME}.json")

    def plan(self) -> list[Job]:
        """Return the jobs that Snakemake would run now, in order; markers are written."""
        runs: list[Job] = []
        outputs: set[Path] = set()
        for job in self.jobs():
            if self._needs_run(job) or outputs & set(job.files):
                runs.append(job)
                outputs |= set(job.outputs)
        return runs

    def jobs(self) -> list[Job]:
        """Return all jobs of the chain as they are now, in order; markers are written."""
        config = self.config
        inputs = RunInputs(config, str(self.results), lambda name: layouts.get(name), StaleMarkers())
        changes = InputChanges(
            inputs, lambda rule: "one", lambda path: Path(path) in self.records, _say_nothing, looks=True
        )
        layouts = KnownLayouts(changes, warns=False)
        show_hidden_changes(self.results, self._checksums_of, _say_nothing)
        list(remove_unreadable_receipts(self.results, dry_run=False))
        for receipt, problem in list(damaged_receipts(inputs)):
            inputs.markers.write(receipt, problem)
        return list(self._jobs(config, inputs, changes))

    def _checksums_of(self, path: Path) -> dict[str, str]:
        record = self.records.get(path)
        return {} if record is None else record.checksums

    def _needs_run(self, job: Job) -> bool:
        record = self.records.get(job.receipt)
        if record is None or job.receipt in self.incomplete or not all(path.exists() for path in job.outputs):
            return True
        if record.params != _text(job.params) or record.inputs != sorted(map(str, job.files)):
            return True
        oldest = min(path.stat().st_mtime_ns for path in job.outputs)
        newer = [path for path in job.files if path.exists() and path.stat().st_mtime_ns > oldest]
        return any(record.checksums.get(str(path)) != _checksum(path) for path in newer)

    def _jobs(self, config: Config, inputs: RunInputs, changes: InputChanges) -> Iterator[Job]:
        """Yield all jobs of the chain, with the inputs and parameters of their rules."""
        receipt, store = inputs.receipt, "segmentation"
        survey, fit, grey = (receipt(rule, NAME) for rule in ("survey", "check_model", "intensity_statistics"))
        common = {"folder": str(self.stores), "code": "one"}
        volume = volume_settings(config, NAME)

        def job(rule: str, path: tuple[str, ...], files: dict[str, Any], **params: Any) -> Job:
            return Job(rule, Path(receipt(rule, *path)), {**common, **params}, files)

        def each(rule: str, files: Any, *path: str, **params: Any) -> Iterator[Job]:
            for block_range in inputs.block_ranges(NAME, rule):
                where = (NAME, *path, block_range)
                given = files(block_range) if callable(files) else {**files, "damage": inputs.damage(rule, *where)}
                yield job(rule, where, given, block_range=block_range, **params)

        surveyed = {"volume": settings(config.volumes[NAME], ["compare", "skeletons", "label_check", "inside"])}
        yield job(
            "survey",
            (NAME,),
            {"stale": changes.markers("survey", NAME)},
            name=NAME,
            storage=settings(config.storage),
            **surveyed,
        )
        yield job(
            "check_model",
            (NAME,),
            {"surveys": [survey], "stale": changes.markers("check_model", NAME)},
            **compared_model(config),
            check_weights=True,
            volumes=[NAME],
            trained_on=None,
            model_config=settings(config.model, ["checkpoint"]),
            asked=asked_of_model(config),
            normalisation=asked_of_normalisation(config),
            tile=None,
            loss_region=config.train.loss_region,
        )
        yield from each("ingest", {"survey": survey, "check_model": fit}, volume=volume)
        yield from each("histogram", lambda block_range: inputs.histogram(NAME, block_range))
        made = {"counted": inputs.receipts("histogram", NAME), "block_ranges": inputs.receipts("ingest", NAME)}
        yield job(
            "intensity_statistics",
            (NAME,),
            {"survey": survey, "check_model": fit, **made},
            normalisation=settings(config.normalisation),
        )
        known = {"survey": survey, "check_model": fit, "intensity_statistics": grey}
        labelled = {**known, "labelled": inputs.labels(NAME)}
        yield from each(
            "targets", labelled, volume=volume, weights=settings(config.weights), output=config.model.output
        )
        targets = inputs.receipts("targets", NAME)
        weighted = {"survey": survey, "own_targets": targets, "training_targets": targets}
        yield from each("weight_map", weighted, weights=settings(config.weights))
        predicting = {
            **given_model(config),
            "predict": settings(config.predict, ["volumes", "job_voxels"]),
            "slurm": settings(config.slurm),
            "worker_logs": str(self.results / "logs/workers"),
        }
        yield from each("predict", known, **predicting)
        labelling = segment_settings(config, store, ["decoder", "candidates", "agglomerate", "min_size", "first_id"])
        yield from each(
            "segment",
            lambda block_range: inputs.segment(NAME, store, block_range),
            store,
            store=store,
            segment=labelling,
            background=False,
        )
        merging = segment_settings(config, store, ["decoder", "candidates", "threshold", "foreground"])
        layers = inputs.layers_per_part(NAME)
        yield job(
            "merge", (NAME, store), inputs.merge(NAME, store), store=store, segment=merging, layers_per_part=layers
        )
        merged = {"survey": survey, "merged": receipt("merge", NAME, store)}
        yield from each("relabel", merged, store, store=store, separated_axes=[])
        yield from each(
            "measure",
            lambda block_range: inputs.measure(NAME, block_range),
            segment=settings(config.segment, ["threshold", "min_size", "first_id"]),
            has_labels=True,
        )
        yield Job(
            "objects",
            Path(inputs.objects_receipt(NAME)),
            {
                "receipts": [inputs.objects_receipt(NAME)],
                "folders": [str(self.stores)],
                "volumes": [settings(config.volumes[NAME], ["missing_chunks", "compare", "skeletons", "label_check"])],
                "classes": [config.segment.main_class],
                "objects": settings(config.objects, ["in_every_run"]),
            },
            {**inputs.objects(), "damage": inputs.damage("objects", NAME, "all")},
            [self.stores / name for name in TABLES],
        )

    # Run

    def request(self, job: Job, fault: dict[str, Any] | None = None, preparation: str = "") -> dict[str, Any]:
        """Return what the server needs to run a job."""
        own = {"receipt": str(job.receipt)} if job.rule != "objects" else {}
        log = self.results / "logs" / job.rule / f"{job.receipt.stem}.log"
        arguments = {**job.params, **job.inputs, **own}
        return {
            "script": job.rule,
            "arguments": json.loads(json.dumps(arguments, default=str)),
            "log": str(log),
            "results": str(self.results),
            "fault": fault,
            "preparation": preparation,
        }

    def run_job(self, job: Job, fault: dict[str, Any] | None = None, copies: int = 1, preparation: str = "") -> None:
        """Run a job, or several copies of it at once, as Snakemake does, with its record afterwards.

        Raises
        ------
        JobFailed
            If one of them has not ended well.
        """
        for path in job.outputs:
            path.unlink(missing_ok=True)
        self.records.pop(job.receipt, None)
        self.incomplete.add(job.receipt)
        self.ran.append(job.rule)
        ended = self.server.run(*[self.request(job, fault, preparation)] * copies)
        failed = [one for one in ended if one.status != 0]
        if not failed:
            checksums = {str(path): _checksum(path) for path in job.files}
            self.records[job.receipt] = Record(_text(job.params), sorted(map(str, job.files)), checksums)
            self.incomplete.discard(job.receipt)
            self.units[job.rule] = max(ended[0].units, self.units.get(job.rule, 0))
            return
        if failed[0].status > 0:
            for path in job.outputs:
                path.unlink(missing_ok=True)
        raise JobFailed(job, failed[0], _last_error(failed[0].said))

    def run(self) -> int:
        """Run what is to be run, once; return the number of jobs."""
        jobs = self.plan()
        for job in jobs:
            self.run_job(job)
        return len(jobs)

    def run_until_done(self) -> list[str]:
        """Run again until nothing is left, following the advice of errors; return the errors."""
        errors: list[str] = []
        for _ in range(ATTEMPTS):
            try:
                if self.run() == 0:
                    return errors
            except JobFailed as failed:
                expect(failed)
                errors.append(failed.error)
                self.follow(failed.error)
        raise AssertionError("\n".join(["not done after many runs", *errors]))

    def verify(self) -> str | None:
        """Run rule `verify`; return its error, or None."""
        config = self.config
        inputs = RunInputs(config, str(self.results), lambda name: None, StaleMarkers())
        arguments = {
            "surveys": [inputs.receipt("survey", NAME)],
            "intensity_statistics": [inputs.receipt("intensity_statistics", NAME)],
            "predicted": [str(path) for path in sorted((self.results / "receipts/predict" / NAME).glob("*-of-*.json"))],
            "results": str(self.results),
            "template": str(Path(__file__).parents[2] / "workflow/report/checks.html.j2"),
            "predict": settings(config.predict),
            "verify": {**settings(config.verify), "crops": 1, "crop_px": 16},
            **given_model(config),
        }
        job = Job("verify", Path(inputs.receipt("verify", "all")), arguments, {})
        [ended] = self.server.run(self.request(job))
        if ended.status == 0:
            return None
        failed = JobFailed(job, ended, _last_error(ended.said))
        expect(failed)
        return failed.error

    def follow(self, advice: str) -> None:
        """Do what an error asks for: remove what it names, or the receipts of the rule that writes a store."""
        named = re.findall(rf"(?:remove|and) ({re.escape(str(self.folder))}[^\s;,]*)", advice)
        for path in map(Path, named):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        if not named and "remove the receipts of" in advice:
            found = next((rule for store, rule in STORES.items() if f"/{store}" in advice), None)
            rule = re.search(r"receipts of (?:rule )?`(\w+)`", advice)
            for path in (self.results / "receipts" / (rule[1] if rule else str(found))).rglob("*.json"):
                path.unlink()

    # What is there

    def intact(self) -> dict[tuple[str, str], BlockRecord]:
        """Return the newest record of each block whose files are those of the record, by rule and block."""
        found = {}
        survey = self.results / "receipts/survey" / f"{NAME}.json"
        try:
            volume = Volume.open(self.stores, survey)
        except (OSError, ValueError):
            return {}
        for folder in {path.parent for path in (self.results / "receipts").rglob("*.jsonl")}:
            rule = folder.relative_to(self.results / "receipts").parts[0]
            stores = _stores_of(rule, volume)
            for box, record in Journal(folder / "none.jsonl").latest().items():
                try:
                    if digest_of_block(stores, box) == record.digest:
                        found[rule, str(box)] = record
                except (OSError, ValueError, RuntimeError):
                    continue
        return found


def made_twice(before: dict[tuple[str, str], BlockRecord], after: dict[tuple[str, str], BlockRecord]) -> list[str]:
    """Return the blocks that were made again although their files and their fingerprints were what they are now."""
    return [
        f"{rule} {box}"
        for (rule, box), old in before.items()
        if (new := after.get((rule, box))) is not None
        if new.revision > old.revision and new.fingerprint == old.fingerprint and new.digest == old.digest
    ]


def expect(failed: JobFailed, *words: str) -> None:
    """Require that an error is one for the user, that it names a path, and that it has some words."""
    ended = failed.ended
    defect = ended.status in (DEFECT, -signal.SIGALRM) or "Traceback" in ended.said
    assert not defect, str(failed)
    assert "defect of the program" not in ended.said, str(failed)
    assert all(word in failed.error for word in ("/", *words)), str(failed)


def _stores_of(rule: str, volume: Volume) -> list[Any]:
    names = {
        "ingest": ["raw.zarr", "labels.zarr"],
        "segment": ["segmentation-fragments.zarr", "segmentation-tables/*.npz"],
        "measure": ["segmentation-tables/objects-*.npz"],
    }
    single = {rule: [f"{store}.zarr"] for store, rule in STORES.items() if rule not in names}
    try:
        return [volume.store_named(name) for name in {**single, **names}[rule]]
    except RuntimeError:
        return []


def _last_error(said: str) -> str:
    lines = [line.partition(" ERROR ")[2] for line in said.splitlines() if " ERROR " in line]
    return "\n".join(lines) or said


def _say_nothing(sentence: str) -> None:
    """Warn nobody."""


def _text(params: dict[str, Any]) -> str:
    return json.dumps(params, sort_keys=True, default=str)


def _checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
