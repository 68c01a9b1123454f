# What all rules share: where receipts lie, which shards a volume has, what a job reads, which code it runs.
#
# Inputs:  none
# Outputs: {results}/provenance.json and ro-crate-metadata.json, at the end of a run that has made the report

import re
import sys
from datetime import UTC, datetime
from functools import cache
from tempfile import NamedTemporaryFile

import yaml
from snakemake.io import IOFile
from snakemake.logging import logger

from unet.config import SegmentConfig, file_of, source_addresses, source_files
from unet.damage import damaged_receipts, note_of, write_note
from unet.devices import machine_has_gpu
from unet.geometry import (
    shard_count,
    shard_names,
    shards_around,
    voxels_of_shards,
)
from unet.headers import layout_of
from unet.headline import headline
from unet.limits import too_many_shards
from unet.places import AddressError, is_address, split_url
from unet.provenance import code_digest
from unet.receipts import fingerprint, read_json
from unet.resources import Share, memory_mb, minutes
from unet.run_end import (
    failure_lines,
    failures,
    new,
    notes_of_failures,
    products,
    written,
)
from unet.run_record import configuration_text, write_run_record
from unet.skeletons import SkeletonError, read_skeletons
from unet.source_formats import zarr_state
from unet.volume import Layout, Volume

SCRIPTS = Path(workflow.basedir).parent / "scripts"
TRAINING_VOLUMES = [] if CONFIG.model.checkpoint else CONFIG.train.volumes
LEARNING_VOLUMES = CONFIG.learning_volumes
# What is given of a volume for its scores alone: nothing else runs again when it changes.
SCORED_WITH = ["compare", "skeletons"]
# With predict.dask: slurm it is the workers that use GPUs.
PREDICT_GPUS = 1 if CONFIG.predict.dask == "job" else 0
TRAIN_THREADS = 8 * CONFIG.train.gpus
STARTED, EARLIER = datetime.now(UTC), {}
# A job reads this file too. It has what it was given, and need not load PyTorch to count that again.
GIVEN = 1


def predict_threads():
    """Threads of a prediction: 4 beside a GPU; else the cores, divided by the jobs that `--resources gpu=N` lets run."""
    cores, jobs = (
        workflow.resource_settings.cores,
        workflow.resource_settings.resources.get("gpu"),
    )
    jobs = getattr(jobs, "value", jobs)
    return max(1, cores // jobs) if cores and jobs and not machine_has_gpu() else 4


PREDICT_THREADS = predict_threads()


wildcard_constraints:
    volume="[A-Za-z0-9][A-Za-z0-9_-]*",
    shard=r"\d+-of-\d+",
    store="segmentation|labels",


def begin_run():
    """Note what is there before the first job, so that the end can tell what this run has made."""
    EARLIER["made"] = written(Path(RESULTS))
    EARLIER["failed"] = notes_of_failures(Path(RESULTS))


def end_run():
    """Record the run if it has made the report, and say what it has made, with the scores of what is delivered."""
    made = new(EARLIER["made"], written(Path(RESULTS)))
    lines = [f"{name:14}{place}" for name, place in products(Path(RESULTS), made)]
    if Path(RESULTS) / "run_config.yaml" in made:
        write_record()
        lines += headline(read_json(Path(RESULTS) / "scores.json"))
    print("", *lines, sep="\n", flush=True)


def end_failed_run():
    """The same, and last of all why jobs have failed."""
    end_run()
    failed = new(EARLIER["failed"], notes_of_failures(Path(RESULTS)))
    print("", *failure_lines(failures(failed)), sep="\n", file=sys.stderr, flush=True)


def write_record():
    """What the report's run was made of, and the same as an RO-Crate."""
    # Imported when it is needed: every job reads this file.
    from unet.run_crate import write_run_crate

    root = Path(workflow.basedir).parent
    record = write_run_record(Path(RESULTS), CONFIG, root, sys.argv, STARTED)
    write_run_crate(Path(RESULTS), record, root)


def receipt(rule, *path):
    """The receipt of a job."""
    return f"{RESULTS}/receipts/{rule}/{'/'.join(path)}.json"


def folder_of(wildcards):
    """The folder of a volume's stores."""
    return f"{RESULTS}/volumes/{wildcards.volume}"


def results_folder(wildcards):
    """The folder of everything that is written."""
    return RESULTS


def settings(section, leave_out=(), unset=True):
    """A section of the configuration as a plain mapping, for `params`: a change of what is in it reruns the rule."""
    return section.model_dump(
        mode="json", exclude=set(leave_out), exclude_unset=not unset
    )


def compared(volume):
    """The volume, and the one that the model learns from."""
    return list(dict.fromkeys([volume, *TRAINING_VOLUMES[:1]]))


def given_model():
    """The model file that is used instead of a training, as an input."""
    return {"checkpoint": CONFIG.model.checkpoint} if CONFIG.model.checkpoint else {}


def asked_of_model():
    """What the configuration itself says of the network: a given model file has to agree."""
    return settings(CONFIG.model, ["checkpoint", "voxel_tolerance"], unset=False)


def volume_settings(wildcards):
    return settings(CONFIG.volumes[wildcards.volume], SCORED_WITH)


def share(wildcards):
    """How much a job has to do: of its volume, else of all; of those whose headers can be read."""
    names = [wildcards.volume] if "volume" in wildcards.keys() else CONFIG.used_volumes
    volumes = [
        Volume(Path(RESULTS) / "volumes" / name, known)
        for name in names
        if (known := known_layout(name)) is not None
    ]
    return Share.of(CONFIG, volumes, voxels_of_job(volumes))


def voxels_of_job(volumes):
    """Of the largest job of some volumes."""
    shapes = [volume.layout.shape for volume in volumes] or [(0, 0, 0)]
    return max(voxels_of_shards(shape, CONFIG.predict.shard_voxels) for shape in shapes)


@cache
def layout(survey, changed):
    """What a survey says, read again when the file has changed: there may be ten thousand jobs."""
    return Layout.read(survey)


def memory(name):
    """Memory of a rule's jobs in MB; more when one is tried again."""
    if not workflow.is_main_process:
        return GIVEN
    return lambda wildcards, threads, attempt: attempt * foreseen_memory(
        name, share(wildcards), threads
    )


def time_limit(name):
    """Time of a rule's jobs in minutes; more when one is tried again."""
    if not workflow.is_main_process:
        return GIVEN
    return lambda wildcards, attempt: attempt * foreseen_minutes(name, share(wildcards))


@cache
def foreseen_memory(name, share, threads):
    return memory_mb(name, CONFIG, share, threads)


@cache
def foreseen_minutes(name, share):
    return minutes(name, CONFIG, share)


def code(script):
    """Hash of a script and the package's modules that it imports: editing one of them reruns the rule."""
    return code_digest(SCRIPTS / f"{script}.py")


def surveyed(volume):
    """A volume's layout. Where its headers cannot be read now, it is known once the checkpoint has run."""
    known = known_layout(volume)
    if known is None:
        survey = Path(checkpoints.survey.get(volume=volume).output.receipt)
        known = layout(survey, survey.stat().st_mtime_ns)
    return known


def known_layout(volume):
    """As an earlier run has surveyed it, else as the headers say now; None where these cannot be read.

    So all jobs are known when a run begins. Of a volume that is not surveyed Snakemake alone would see no job behind
    a finished result, and would start jobs without their inputs (snakemake issue 3862).
    """
    survey = Path(receipt("survey", volume))
    if survey.exists() and is_current(survey, volume):
        return layout(survey, survey.stat().st_mtime_ns)
    return foreseen_layout(volume) if workflow.is_main_process else None


@cache
def foreseen_layout(volume):
    try:
        return layout_of(CONFIG, volume)
    except Exception:
        # Whatever it is: `survey` reads the same headers, and says what is wrong with them.
        return None


@cache
def is_current(survey, volume):
    """Whether a survey holds that an earlier run has left; jobs trust the process that has started them.

    Where Snakemake finds that a file has changed, and surveys again, what depends on it waits, and is asked anew.
    """
    made_from = read_json(survey).get("made_from")
    return not workflow.is_main_process or made_from == survey_inputs(volume)


def survey_inputs(volume):
    """What a survey depends on beside the content of its files."""
    parts = {
        "volume": settings(CONFIG.volumes[volume], SCORED_WITH),
        "storage": settings(CONFIG.storage),
        "files": files_of(volume),
        "states": source_states(volume),
        "code": code("survey"),
    }
    return fingerprint(**parts)


def shards(volume):
    """The names of a volume's shards."""
    return names_of_shards(volume, surveyed(volume))


@cache
def names_of_shards(volume, layout):
    voxels = voxels_of_shards(layout.shape, CONFIG.predict.shard_voxels)
    problem = too_many_shards(volume, shard_count(layout.grid, voxels), layout.shape)
    if problem is not None:
        raise WorkflowError(problem)
    return shard_names(layout.grid, voxels)


def receipts_around(rule, wildcards, margin, *path):
    """The receipts of the shards that hold what a job reads: its own blocks, and others within a margin in voxels."""
    names = shards_around(surveyed(wildcards.volume).grid, wildcards.shard, margin)
    return [receipt(rule, wildcards.volume, *path, name) for name in names]


def shard_receipts(rule, volume, *path):
    """The receipts of all shards of a volume."""
    return [receipt(rule, volume, *path, shard) for shard in shards(volume)]


def segmentation_receipts(wildcards):
    """What says that the segmentation of every predicted volume is whole."""
    return [
        r
        for name in CONFIG.predict.volumes
        for r in shard_receipts("relabel", name, "segmentation")
    ]


def labels_receipts(volume):
    """What says that `labels.zarr` of a volume is whole: instances are ingested, other kinds are made from classes."""
    if CONFIG.volumes[volume].label_kind == "instances":
        return [receipt("grey_values", volume)]
    return shard_receipts("relabel", volume, "labels")


def chosen_threshold(wildcards):
    """The sweep that chooses the threshold, where the configuration says `auto`."""
    if wildcards.store == "segmentation" and CONFIG.segment.threshold == "auto":
        return {"threshold": receipt("threshold", "all")}
    return {}


def segment_inputs(wildcards):
    """What a shard is made from: its own probabilities, for a watershed those around it as well."""
    ours = wildcards.store == "segmentation"
    watershed = ours and CONFIG.segment.method == "watershed"
    margin = watershed_halo(surveyed(wildcards.volume)) if watershed else (0, 0, 0)
    return {
        "survey": receipt("survey", wildcards.volume),
        "made": receipts_around("predict" if ours else "ingest", wildcards, margin),
        "damage": damage_of(
            "segment", wildcards.volume, wildcards.store, wildcards.shard
        ),
        **chosen_threshold(wildcards),
    }


def watershed_halo(layout):
    """How far around a block a watershed reads."""
    from unet.watershed import (
        Relief,
    )  # for a watershed alone, since every job reads this file

    return Relief.of(CONFIG.segment, layout.voxel_nm).halo


def merge_inputs(wildcards):
    inputs = {
        "survey": receipt("survey", wildcards.volume),
        "segmented": shard_receipts("segment", wildcards.volume, wildcards.store),
    }
    if wildcards.store == "segmentation" and CONFIG.segment.has_graph:
        inputs["edges"] = shard_receipts("region_graph", wildcards.volume)
        if CONFIG.segment.agglomerate.threshold == "auto":
            inputs["threshold"] = receipt("agglomeration_threshold", "all")
    return inputs


def segment_settings(store, leave_out):
    """Section `segment` for a store: annotated classes are labelled by defaults, whatever results are."""
    return settings(
        CONFIG.segment if store == "segmentation" else SegmentConfig(), leave_out
    )


def evaluation_inputs(wildcards):
    inputs = {
        "survey": receipt("survey", wildcards.volume),
        "sweep": receipt("sweep", wildcards.volume),
        "segmented": shard_receipts("relabel", wildcards.volume, "segmentation"),
        "targets": shard_receipts("targets", wildcards.volume),
        "peers": [
            file
            for address in CONFIG.volumes[wildcards.volume].compare.values()
            if not is_address(address)
            for file in watched(Path(file_of(address)))
        ],
        "skeletons": skeleton_files(wildcards.volume),
    }
    if CONFIG.evaluate.threshold_volumes:
        inputs["threshold"] = receipt("threshold", "all")
    return inputs


def skeleton_files(volume):
    """The SWC files of a volume's true neurons."""
    skeletons = CONFIG.volumes[volume].skeletons
    return watched(Path(skeletons.files)) if skeletons else []


def of_volume(inputs, volume):
    """What a volume is ingested from."""
    own = f"volumes.{volume}."
    scored_with = tuple(f"{own}{key}." for key in SCORED_WITH)
    return [
        given
        for key, given in inputs.items()
        if key.startswith(own) and not key.startswith(scored_with)
    ]


def sources(wildcards):
    """The image files of a volume, as an input."""
    return files_of(wildcards.volume)


def files_of(volume):
    """The image files of a volume that Snakemake watches; of a directory every file, of a Zarr store its metadata."""
    files = of_volume(source_files(CONFIG), volume)
    return [file for path in files for file in watched(path)]


def source_states(volume):
    """Of what Snakemake cannot watch: another state of the metadata behind an address reruns the survey."""
    addresses = of_volume(source_addresses(CONFIG), volume)
    return [state_of(address) for address in addresses]


@cache
def state_of(address):
    try:
        return zarr_state(*split_url(address))
    except AddressError as error:
        raise WorkflowError(str(error)) from None


def watched(path):
    files = (
        sorted(str(file) for file in path.iterdir() if file.is_file())
        if path.is_dir()
        else []
    )
    return files or [str(path)]


def check_sources():
    """Missing image files stop the run before the first job."""
    made_here = [Path(f"{RESULTS}/sample/{name}.tif") for name in ("raw", "labels")]
    missing = [
        f"{key}: {path} is not there"
        for key, path in source_files(CONFIG).items()
        if path not in made_here and not path.exists()
    ]
    if workflow.is_main_process:
        missing += [
            f"{key}: there is no Zarr store at {address}"
            for key, address in source_addresses(CONFIG).items()
            if not state_of(address)
        ]
    if missing:
        here = f"Paths count from the working directory {Path.cwd()}."
        raise WorkflowError("\n".join(["Input files are missing:", *missing, here]))
    if workflow.is_main_process:
        check_skeletons()


def check_skeletons():
    """Skeletons that cannot be read stop the run before the first job."""
    for name in CONFIG.evaluate.volumes:
        given = CONFIG.volumes[name].skeletons
        try:
            if given:
                read_skeletons(Path(given.files), given.unit_nm)
        except SkeletonError as error:
            raise WorkflowError(f"volumes.{name}.skeletons.files: {error}") from None


def damage_of(rule, *path):
    """The note that a job's files were deleted or cut short, as an input of the job."""
    note = note_of(Path(receipt(rule, *path)))
    return [str(note)] if note.exists() else []


@cache
def history_of(volume):
    """An input by which everything of a volume runs again, where Snakemake has lost its record of these results.

    It cannot tell then whether they were made with these settings. Each job looks, and finds what is finished.
    """
    survey = Path(receipt("survey", volume))
    if workflow.is_main_process and survey.exists() and is_unknown(survey):
        logger.warning(
            f"{RESULTS} holds results that Snakemake has no record of (in .snakemake/metadata), made with other "
            f"settings: all jobs of {volume} run again; what is finished is found"
        )
        if is_dry_run():
            EARLIER.setdefault("none", NamedTemporaryFile(prefix="no-record-of-"))
            return [EARLIER["none"].name]
        write_note(survey, "made with other settings, and Snakemake has no record")
    return damage_of("survey", volume)


def is_unknown(survey):
    """Whether Snakemake has no record of a survey, and the last report was of another configuration, or there is none."""
    if workflow.persistence.metadata(IOFile(str(survey))) is not None:
        return False
    reported = Path(RESULTS) / "run_config.yaml"
    was = yaml.safe_load(reported.read_text()) if reported.exists() else {}
    now = yaml.safe_load(configuration_text(CONFIG))
    return {**was, "results": None} != {**now, "results": None}


def is_dry_run():
    """Whether nothing may be changed; while a Snakefile is read, only the command line tells."""
    return any(re.fullmatch(r"-[a-z]*n[a-z]*|--dry-?run", word) for word in sys.argv)


def note_damage():
    """Note which receipts do not hold any more: their jobs run again. `verify` finds the damage itself."""
    if not workflow.is_main_process or {"verify", "plan"} & set(sys.argv):
        return
    try:
        for path, problem in damaged_receipts(Path(RESULTS)):
            logger.warning(f"{path}: {problem}; the job runs again")
            if not is_dry_run():
                write_note(path, problem)
    except AddressError as error:
        raise WorkflowError(str(error)) from None


def print_plan():
    """A dry run of `plan` prints it, as the job itself would, but writes nothing."""
    from unet.plan_table import as_text
    from unet.planning import plan_run

    print(as_text(plan_run(CONFIG, PREDICT_THREADS)))


check_sources()
note_damage()
if workflow.is_main_process and "plan" in sys.argv and is_dry_run():
    print_plan()
