# Shared by all rules, and known to Snakemake alone: its command line, its process, its records.
# What follows from the configuration and receipts alone is in unet/run: inputs, parameters, changes, preconditions.
#
# Inputs:  none
# Outputs: none

import sys
from datetime import UTC, datetime
from functools import cache

from snakemake.io import IOFile
from snakemake.logging import logger

from unet.config.unused_keys import unused_keys
from unet.run.changes import InputChanges, KnownLayouts, show_hidden_changes
from unet.run.code_digest_cache import cached_code_digest
from unet.run.inputs import RunInputs
from unet.run.parameters import (
    CHOOSING,
    FINISHING,
    given_model,
    settings,
    volume_settings,
)
from unet.run.preconditions import is_dry_run
from unet.run.receipts import TooManyRangesError
from unet.run.reported_settings import problem_of_triggers
from unet.run.summary import written
from unet.storage.address import AddressError
from unet.volumes.input_states import SURVEYED_WITH
from unet.volumes.integrity import StaleMarkers

ROOT = Path(workflow.basedir).parent
STARTED, EARLIER = datetime.now(UTC), {}
IS_MAIN, DRY_RUN = workflow.is_main_process, is_dry_run(sys.argv)


def code(rule):
    """Return the digest of a script and of the package's code that it uses: an edit of either reruns the rule."""
    return cached_code_digest(ROOT / "scripts" / f"{rule}.py")


def has_record(path):
    """Return whether Snakemake knows with which parameters a file was made."""
    return workflow.persistence.metadata(IOFile(str(path))) is not None


def checksums_of_inputs(path):
    """Return what Snakemake has recorded of the contents of the inputs of a file; empty without a record."""
    record = workflow.persistence.metadata(IOFile(str(path)))
    return {} if record is None else (record.input_checksums or {})


INPUTS = RunInputs(
    CONFIG, RESULTS, lambda volume: LAYOUTS.get(volume), StaleMarkers(dry_run=DRY_RUN)
)
CHANGES = InputChanges(INPUTS, code, has_record, logger.warning, looks=IS_MAIN)
LAYOUTS = KnownLayouts(CHANGES, warns=DRY_RUN)
TRAINING_VOLUMES, LEARNING_VOLUMES = INPUTS.training_volumes, CONFIG.learning_volumes
receipt, receipts, receipts_of = INPUTS.receipt, INPUTS.receipts, INPUTS.receipts_of


wildcard_constraints:
    volume="|".join(CONFIG.volumes),
    block_range=r"\d+-of-\d+",
    part=r"\d+-\d+",
    store="segmentation|labels",


def per_job(function):
    """Return an input or parameter of a job, from its wildcards; for errors of the user one sentence."""

    def of_job(wildcards):
        try:
            return function(wildcards)
        except (AddressError, TooManyRangesError) as error:
            raise WorkflowError(str(error)) from None

    return of_job


def inputs_of(rule):
    """Return all inputs of a rule's jobs: the method of its name in `RunInputs`, which is given the wildcards."""
    method = getattr(INPUTS, rule)
    return per_job(lambda wildcards: method(**dict(wildcards.items())))


def all_receipts(rule, *store):
    """Return the receipts of all jobs of a rule on the volume of a job."""
    return per_job(lambda wildcards: receipts(rule, wildcards.volume, *store))


def damage(rule):
    """Return the marker that files of a job were deleted or cut short, as an input of the job."""
    return lambda wildcards: INPUTS.damage(rule, *wildcards)


def stale(rule):
    """Return the marker that the user's files have changed since a rule read them, as an input of its job."""

    def marker(wildcards):
        note_hidden_changes()
        return CHANGES.markers(rule, wildcards.volume)

    return per_job(marker)


@cache
def note_hidden_changes():
    """Let Snakemake see changes that times do not show; it has its records only once jobs are looked for."""
    if IS_MAIN:
        triggers = [str(trigger) for trigger in workflow.rerun_triggers]
        problem = problem_of_triggers(triggers, Path(RESULTS), CONFIG)
        if problem is not None:
            raise WorkflowError(problem)
    if IS_MAIN and not {"verify", "plan", "view"} & set(sys.argv):
        show_hidden_changes(Path(RESULTS), checksums_of_inputs, logger.warning)


def folder_of(wildcards):
    """Return the folder of a volume's stores."""
    return f"{RESULTS}/volumes/{wildcards.volume}"


def results_folder(wildcards):
    """Return the results folder. It is a job's parameter, so that Snakemake does not compare its content."""
    return RESULTS
