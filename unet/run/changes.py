"""Finished jobs that have to run again: the user's files have changed since, or files of the results are gone.

A marker beside the receipt is an input of the job (`unet.volumes.integrity.StaleMarkers`), so Snakemake runs it again.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from pathlib import Path

from unet.run.inputs import RunInputs
from unet.run.reported_settings import changed_settings
from unet.run.rules import RULES
from unet.storage.files import DamagedFileError, read_json
from unet.training.folder import missing_copies
from unet.volumes.input_states import (
    InputStates,
    changed_inputs,
    evaluation_input_states,
    inside_input_states,
    model_input_states,
    survey_input_states,
)
from unet.volumes.integrity import invalid_receipts, unreadable_receipts
from unet.volumes.layout import VolumeLayout


@dataclass(frozen=True)
class InputChanges:
    """Changes of the user's files since a rule read them. Each rule and volume is looked at once.

    Parameters
    ----------
    inputs : RunInputs
        Where receipts and markers lie.
    code : callable
        Return the digest of a rule's code.
    has_record : callable
        Return whether Snakemake knows with which parameters a file was made.
    warn : callable
        Tell the user a sentence.
    looks : bool
        Whether this process looks at the files. Jobs do not: they trust the process that has started them.
    """

    inputs: RunInputs
    code: Callable[[str], str]
    has_record: Callable[[Path], bool]
    warn: Callable[[str], None]
    looks: bool
    _stale: dict[tuple[str, str], bool] = field(default_factory=dict, init=False, repr=False)

    def markers(self, rule: str, volume: str) -> list[Path]:
        """Return the marker that a rule has read other files than there are now, as an input of its job."""
        self.is_stale(rule, volume)
        return self.inputs.markers.of(self.inputs.made_by(rule, volume))

    def is_stale(self, rule: str, volume: str) -> bool:
        """Return whether a rule has read other files than there are now; if so, write the marker.

        Raises
        ------
        AddressError
            If a server cannot be reached.
        """
        if (rule, volume) not in self._stale:
            self._stale[rule, volume] = self.looks and self._marked(rule, volume)
        return self._stale[rule, volume]

    def is_known(self, rule: str, volume: str) -> bool:
        """Return whether a rule has read files of the states that there are now.

        Raises
        ------
        AddressError
            If a server cannot be reached.
        """
        made = self.inputs.made_by(rule, volume)
        with suppress(FileNotFoundError, DamagedFileError):
            return not changed_inputs(read_json(made).get("input_states"), self._input_states(rule, volume))
        return False

    def _marked(self, rule: str, volume: str) -> bool:
        made = self.inputs.made_by(rule, volume)
        if not made.exists():
            return False
        try:
            then = read_json(made).get("input_states")
        except DamagedFileError:  # of a dry run, which removes nothing
            then = None
        others = changed_inputs(then, self._input_states(rule, volume))
        problem = f"not made from what is there now ({'; '.join(others)})" if others else None
        problem = problem or (self._without_record(made) if rule == "survey" else None)
        if problem:
            self.warn(f"{made}: {problem}; the job runs again")
            self.inputs.markers.write(made, problem)
        return bool(problem)

    def _input_states(self, rule: str, volume: str) -> InputStates:
        """Return the states of the files that a rule would read now. Ingest follows its survey."""
        config = self.inputs.config
        if rule == "survey":
            return survey_input_states(config.volumes[volume], config.storage, self.code("survey"))
        if rule == "check_model":
            return model_input_states(config.given_model)
        if rule == "objects":
            return inside_input_states(config.volumes[volume])
        return evaluation_input_states(config.volumes[volume])

    def _without_record(self, survey: Path) -> str | None:
        """Return why a survey may be of other settings although its files are the same; None where that is known.

        Snakemake may have lost its record (.snakemake/metadata), and the last report may be of another configuration.
        Then all jobs of the volume run again. Each looks, and finds what is finished.
        """
        if self.has_record(survey):
            return None
        results = Path(self.inputs.results)
        if (results / "run_config.yaml").exists() and not changed_settings(results, self.inputs.config):
            return None
        return "Snakemake has no record of it, and the last report is of other settings"


@dataclass(frozen=True)
class KnownLayouts:
    """The layouts of volumes that are known before any job runs.

    So all jobs are known when a run begins. A volume whose headers cannot be read has no other job than `survey`, which
    reads the same headers and says what is wrong with them. `unreadable` names these volumes.
    """

    changes: InputChanges
    warns: bool
    unreadable: list[str] = field(default_factory=list, init=False)
    _read: dict[tuple[Path, int], VolumeLayout] = field(default_factory=dict, init=False, repr=False)
    _by_headers: dict[str, VolumeLayout | None] = field(default_factory=dict, init=False, repr=False)

    def get(self, volume: str) -> VolumeLayout | None:
        """Return the layout as an earlier run has surveyed it, else as the headers say now; None without both."""
        survey = Path(self.changes.inputs.receipt("survey", volume))
        if survey.exists() and not self.changes.is_stale("survey", volume):
            return self._of_survey(survey)
        if self.changes.looks and volume not in self._by_headers:
            self._by_headers[volume] = self._of_headers(volume)
        return self._by_headers.get(volume)

    def _of_survey(self, survey: Path) -> VolumeLayout:
        """Return the layout of a survey's receipt, read again when the file has changed: ten thousand jobs may ask."""
        key = survey, survey.stat().st_mtime_ns
        if key not in self._read:
            self._read[key] = VolumeLayout.read(survey)
        return self._read[key]

    def _of_headers(self, volume: str) -> VolumeLayout | None:
        try:
            from unet.volumes.layout_from_headers import (
                expected_layout,  # opens image files, which a rerun seldom needs
            )

            return expected_layout(self.changes.inputs.config, volume)
        # whatever it is, `survey` reads the same headers, and says what is wrong with them
        except Exception as error:
            self.unreadable.append(volume)
            if self.warns:
                self.changes.warn(f"Jobs of {volume} are missing below: {error}")
            return None


def damaged_receipts(inputs: RunInputs) -> Iterator[tuple[Path, str]]:
    """Yield each receipt whose files are not all there, and what is wrong with them.

    Raises
    ------
    AddressError
        If a server cannot be reached.
    """
    results = Path(inputs.results)
    yield from invalid_receipts(results)
    if not inputs.config.model.checkpoint:
        made, model = Path(inputs.receipt("train", "model")), results / "model"
        problem = missing_copies(model / "model.pt", model / "training.jsonl", made)
        if problem:
            yield made, problem


def remove_unreadable_receipts(results: Path, dry_run: bool) -> Iterator[tuple[Path, str]]:
    """Remove each receipt that is damaged itself, and yield it with the problem. A dry run removes nothing."""
    for path, problem in list(unreadable_receipts(results)):
        if not dry_run:
            path.unlink()
        yield path, problem


def hidden_changes(results: Path, checksums_of: Callable[[Path], Mapping[str, str]]) -> Iterator[tuple[Path, Path]]:
    """Yield each receipt that was made of another content of an input than there is now, and the input, by time alone.

    Snakemake compares contents only where the time of an input is later than that of the output. That an input is
    later is not seen where a clock was set back between the two jobs, or where two machines have written them.

    Parameters
    ----------
    results : Path
        Folder of everything that is written.
    checksums_of : callable
        Return what Snakemake has recorded of the inputs of a file: SHA-256 by path.
    """

    @cache
    def content(path: str) -> tuple[str, int] | None:
        file = Path(path)
        return (sha256(file.read_bytes()).hexdigest(), file.stat().st_mtime_ns) if file.is_file() else None

    receipts = [*(results / "receipts").rglob("*.json"), *(results / "volumes").glob("*/evaluation.json")]
    for receipt in sorted([*receipts, *results.glob("report.html")]):
        time = receipt.stat().st_mtime_ns
        for name, recorded in sorted(checksums_of(receipt).items()):
            algorithm, _, checksum = recorded.rpartition(":")
            found = content(name) if algorithm in ("", "sha256") else None
            if found is not None and found[0] != checksum and found[1] <= time:
                yield receipt, Path(name)
                break


def show_hidden_changes(
    results: Path, checksums_of: Callable[[Path], Mapping[str, str]], warn: Callable[[str], object]
) -> None:
    """Warn of each of the `hidden_changes`, and set the time of its receipt before the time of the changed input.

    Then Snakemake compares their contents, and runs the job again.
    """
    for receipt, changed in hidden_changes(results, checksums_of):
        warn(
            f"{receipt}: {changed} was another one when this was made, though its time is not later (was a clock set "
            "back, or is the clock of another machine wrong?); the job runs again"
        )
        found = receipt.stat()
        with suppress(PermissionError):  # a dry run of somebody who may not write there
            os.utime(receipt, ns=(found.st_atime_ns, changed.stat().st_mtime_ns - 1000))


def runs_again(receipt: Path, inputs: RunInputs, words: Iterable[str]) -> bool:
    """Return whether a damaged receipt is of a rule that this run makes: one of the chain, or one of those asked for.

    Parameters
    ----------
    receipt : Path
        Path of the receipt, `<results>/receipts/<rule>/...`.
    words : iterable of str
        Words of the command line.
    """
    on_demand = {name for name, rule in RULES.items() if rule.volumes is None}
    rule = receipt.relative_to(Path(inputs.results) / "receipts").parts[0]
    return rule not in on_demand or bool(on_demand & {*words})
