# What all rules share: where receipts lie, which block ranges a volume has, what a job reads, which code it runs.
#
# Inputs:  none
# Outputs: {results}/provenance.json and ro-crate-metadata.json (extra `crate`), at the end of a run that has made the report

import re
import sys
from datetime import UTC, datetime
from functools import cache

import yaml
from snakemake.io import IOFile
from snakemake.logging import logger

from unet.extras import is_installed, needs
from unet.run.code_digest import code_digest
from unet.config.segment import SegmentConfig
from unet.config.inputs import source_addresses, source_files
from unet.volumes.constant_regions import HALO
from unet.volumes.integrity import StaleMarkers, invalid_receipts
from unet.jobs.devices import machine_has_gpu
from unet.geometry.block_ranges import (
    block_range_count,
    block_range_names,
    ranges_around,
    voxels_per_job,
)
from unet.volumes.layout_from_headers import expected_layout, is_sample
from unet.run.report.headline import headline
from unet.volumes.input_states import (
    SCORED_WITH,
    SURVEYED_WITH,
    changed_inputs,
    evaluation_input_states,
    model_input_states,
    survey_input_states,
)
from unet.run.plan.limits import too_many_ranges
from unet.storage.address import AddressError, split_url
from unet.run.preconditions import problem_of_input
from unet.storage.files import read_json
from unet.run.plan.resources import Workload, memory_mb, minutes
from unet.run.summary import (
    failure_lines,
    failures,
    new,
    notes_of_failures,
    products,
    written,
)
from unet.run.provenance import configuration_text, write_run_record
from unet.evaluation.skeletons import SkeletonError, read_skeletons
from unet.volumes.readers.zarr import is_zarr
from unet.training.folder import missing_copies
from unet.volumes.volume import VolumeLayout, Volume
from unet.config.unused_keys import unused_keys

SCRIPTS = Path(workflow.basedir).parent / "scripts"
TRAINING_VOLUMES = [] if CONFIG.model.checkpoint else CONFIG.train.volumes
LEARNING_VOLUMES = CONFIG.learning_volumes
# With predict.workers: slurm it is the workers that use GPUs.
PREDICT_GPUS = 1 if CONFIG.predict.workers == "local" else 0
TRAIN_THREADS = 8 * CONFIG.train.gpus
SAMPLED = [f"{RESULTS}/sample/raw.tif", f"{RESULTS}/sample/labels.tif"]
STARTED, EARLIER = datetime.now(UTC), {}
# Volumes whose headers could not be read when the run was planned.
UNREADABLE = []
# Memory and time where nothing looks at them, see `is_asked_for`.
NOT_COUNTED = 1


def predict_threads():
    """Threads of a prediction: 4 beside a GPU; else the cores, divided by the jobs that `--resources gpu=N` lets run."""
    cores, jobs = (
        workflow.resource_settings.cores,
        workflow.resource_settings.resources.get("gpu"),
    )
    jobs = getattr(jobs, "value", jobs)
    return max(1, cores // jobs) if cores and jobs and not machine_has_gpu() else 4


PREDICT_THREADS = predict_threads()


def is_asked_for():
    """Whether anything looks at the memory and time of jobs: a scheduler, which has `--jobs`, or limits on the command
    line. To count them takes seconds, mostly of loading PyTorch. A job reads this file too, and has what it was given.
    """
    given = workflow.resource_settings
    limited = {"mem", "mem_mb", "runtime"} & set(given.resources)
    return workflow.is_main_process and (given.nodes is not None or bool(limited))


ASKED_FOR = is_asked_for()


wildcard_constraints:
    volume="|".join(CONFIG.volumes),
    block_range=r"\d+-of-\d+",
    store="segmentation|labels",


def begin_run():
    """Note what is there before the first job, so that the end can tell what this run has made."""
    EARLIER["made"] = written(Path(RESULTS))
    EARLIER["failed"] = notes_of_failures(Path(RESULTS))
    if CONFIG.predict.dashboard and not is_installed("bokeh"):
        logger.info(
            f"predict.dashboard: true {needs('bokeh')}; predictions run without it"
        )


def end_run():
    """Record the run if it has made the report, and say what it has made, with the scores of what is delivered."""
    made = new(EARLIER["made"], written(Path(RESULTS)))
    late = [name for name in UNREADABLE if Path(receipt("survey", name)) in made]
    if late:
        raise WorkflowError(
            f"The headers of {', '.join(late)} could not be read when this run was planned, but "
            "could be read later: run the same command again, which makes what is missing"
        )
    lines = [f"{name:14}{place}" for name, place in products(Path(RESULTS), made)]
    if Path(RESULTS) / "run_config.yaml" in made:
        lines += write_record()
        lines += headline(read_json(Path(RESULTS) / "scores.json"))
    logger.info("\n".join(["", *lines]))


def end_failed_run():
    """The same, and last of all why jobs have failed."""
    end_run()
    failed = new(EARLIER["failed"], notes_of_failures(Path(RESULTS)))
    logger.error("\n".join(["", *failure_lines(failures(failed))]))


def write_record():
    """Record what the report's run was made of, also as an RO-Crate; return lines about what was not written."""
    # Imported when it is needed: every job reads this file.
    from unet.run.ro_crate import write_run_crate

    root = Path(workflow.basedir).parent
    asked = [
        Path(path) for job in workflow.dag.jobs for path in (*job.output, *job.log)
    ]
    record = write_run_record(Path(RESULTS), CONFIG, root, sys.argv, STARTED, asked)
    problem = write_run_crate(Path(RESULTS), record, root)
    return [problem] if problem else []


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


def trained_model():
    """The model, as an input, where this workflow trains it."""
    return {} if CONFIG.model.checkpoint else {"model": f"{RESULTS}/model/model.pt"}


def given_model(name="model"):
    """The model file that is given instead, as a parameter: the user's files are compared by `stale`."""
    return {name: CONFIG.model.checkpoint} if CONFIG.model.checkpoint else {}


def asked_of_model():
    """What the configuration itself says of the network: a given model file has to agree."""
    return settings(CONFIG.model, ["checkpoint", "voxel_size_tolerance"], unset=False)


def asked_of_normalisation():
    """What the configuration itself says of the normalisation, where a given model file has a rule of its own."""
    return (
        settings(CONFIG.normalisation, unset=False) if CONFIG.model.checkpoint else {}
    )


def volume_settings(wildcards):
    """What is known of a volume's files, without what only its scores or its survey need."""
    return settings(CONFIG.volumes[wildcards.volume], [*SCORED_WITH, *SURVEYED_WITH])


def survey_settings(wildcards):
    return settings(CONFIG.volumes[wildcards.volume], SCORED_WITH)


def share(wildcards):
    """How much a job has to do: of its volume, else of all; of those whose headers can be read."""
    names = [wildcards.volume] if "volume" in wildcards.keys() else CONFIG.used_volumes
    volumes = [
        Volume(Path(RESULTS) / "volumes" / name, known)
        for name in names
        if (known := surveyed(name)) is not None
    ]
    return Workload.of(CONFIG, volumes, voxels_of_job(volumes))


def voxels_of_job(volumes):
    """Of the largest job of some volumes."""
    shapes = [volume.layout.shape for volume in volumes] or [(0, 0, 0)]
    return max(voxels_per_job(shape, CONFIG.predict.job_voxels) for shape in shapes)


@cache
def layout(survey, changed):
    """What a survey says, read again when the file has changed: there may be ten thousand jobs."""
    return VolumeLayout.read(survey)


def memory(name):
    """Memory of a rule's jobs in MB, where it is asked for; more when one is tried again."""
    if not ASKED_FOR:
        return NOT_COUNTED
    return lambda wildcards, threads, attempt: attempt * estimated_memory(
        name, share(wildcards), threads
    )


def time_limit(name):
    """Time of a rule's jobs in minutes, where it is asked for; more when one is tried again."""
    if not ASKED_FOR:
        return NOT_COUNTED
    return lambda wildcards, attempt: attempt * estimated_minutes(
        name, share(wildcards)
    )


@cache
def estimated_memory(name, share, threads):
    return memory_mb(name, CONFIG, share, threads)


@cache
def estimated_minutes(name, share):
    return minutes(name, CONFIG, share)


def code(script):
    """Hash of a script and the package's modules that it imports: editing one of them reruns the rule."""
    return code_digest(SCRIPTS / f"{script}.py")


def surveyed(volume):
    """A volume's layout: as an earlier run has surveyed it, else as the headers say now; None where these cannot be read.

    So all jobs are known when a run begins. The job `survey` reads the same headers, and says what is wrong with them;
    a volume that cannot be read has no other job.
    """
    survey = Path(receipt("survey", volume))
    if survey.exists() and not is_stale("survey", volume):
        return layout(survey, survey.stat().st_mtime_ns)
    return layout_by_headers(volume) if workflow.is_main_process else None


@cache
def layout_by_headers(volume):
    try:
        return expected_layout(CONFIG, volume)
    # Whatever it is, `survey` reads the same headers, and says what is wrong with them.
    except Exception as error:
        UNREADABLE.append(volume)
        if is_dry_run():
            logger.warning(f"Jobs of {volume} are missing below: {error}")
        return None


def evaluation(volume):
    return f"{RESULTS}/volumes/{volume}/evaluation.json"


def would_be_made_from(rule, volume):
    """What a rule that reads the user's files would read now; ingest follows its survey."""
    own = CONFIG.volumes[volume]
    made_from = {
        "survey": lambda: survey_input_states(own, CONFIG.storage, code("survey")),
        "check_model": lambda: model_input_states(CONFIG.model.checkpoint),
        "evaluate": lambda: evaluation_input_states(own),
    }
    return made_from[rule]()


def made_by(rule, volume):
    """What says that a rule which reads the user's files is done."""
    return Path(evaluation(volume) if rule == "evaluate" else receipt(rule, volume))


@cache
def is_stale(rule, volume):
    """Whether a rule has read other files of the user than there are now, noted so that its job runs again.

    Only the process that plans looks at them, and once; jobs trust the process that has started them.
    """
    made = made_by(rule, volume)
    if not workflow.is_main_process or not made.exists():
        return False
    problem = not_made_from_now(rule, volume, made) or without_record(rule, made)
    if problem:
        logger.warning(f"{made}: {problem}; the job runs again")
        STALE_MARKERS.write(made, problem)
    return bool(problem)


def not_made_from_now(rule, volume, made):
    """What of the user's files and settings has changed since a rule read them; nothing where all is the same."""
    try:
        now = would_be_made_from(rule, volume)
    except AddressError as error:
        raise WorkflowError(str(error)) from None
    others = changed_inputs(read_json(made).get("input_states"), now)
    return f"not made from what is there now ({'; '.join(others)})" if others else None


def without_record(rule, made):
    """Whether Snakemake cannot tell with which settings a survey's volume was made, and they may be others than now.

    It has lost its record (.snakemake/metadata), and the last report is of another configuration, or there is none.
    All jobs of the volume run again then; each looks, and finds what is finished.
    """
    is_survey = rule == "survey"
    if not is_survey or workflow.persistence.metadata(IOFile(str(made))) is not None:
        return None
    reported = Path(RESULTS) / "run_config.yaml"
    was = yaml.safe_load(reported.read_text()) if reported.exists() else {}
    now = yaml.safe_load(configuration_text(CONFIG))
    if {**was, "results": None} == {**now, "results": None}:
        return None
    return "Snakemake has no record of it, and the last report is of other settings"


def stale(rule, volume):
    """The note that a rule has read other files of the user than there are now, as an input of its job."""
    is_stale(rule, volume)
    return STALE_MARKERS.of(made_by(rule, volume))


def block_ranges(volume):
    """The names of a volume's block ranges."""
    return names_of_ranges(volume, surveyed(volume))


@cache
def names_of_ranges(volume, layout):
    if layout is None:
        return []
    voxels = voxels_per_job(layout.shape, CONFIG.predict.job_voxels)
    problem = too_many_ranges(
        volume, block_range_count(layout.grid, voxels), layout.shape
    )
    if problem is not None:
        raise WorkflowError(problem)
    return block_range_names(layout.grid, voxels)


def receipts_around(rule, wildcards, margin, *path):
    """The receipts of the block ranges that hold what a job reads: its own blocks, and others within a margin in voxels."""
    layout = surveyed(wildcards.volume)
    if layout is None:
        return []
    names = ranges_around(layout.grid, wildcards.block_range, margin)
    return [receipt(rule, wildcards.volume, *path, name) for name in names]


def range_receipts(rule, volume, *path):
    """The receipts of all block ranges of a volume."""
    return [
        receipt(rule, volume, *path, block_range)
        for block_range in block_ranges(volume)
    ]


def segmentation_receipts(wildcards):
    """What says that the segmentation of every predicted volume is whole."""
    return [
        r
        for name in CONFIG.predict.volumes
        for r in range_receipts("relabel", name, "segmentation")
    ]


def labels_receipts(volume):
    """What says that `labels.zarr` of a volume is whole: instances are ingested, other kinds are made from classes."""
    if CONFIG.volumes[volume].label_kind == "instances":
        return [receipt("intensity_statistics", volume)]
    return range_receipts("relabel", volume, "labels")


def checked(volumes):
    """What says that the labels of volumes can be right."""
    return [
        receipt("check_labels", name)
        for name in volumes
        if name in CONFIG.annotated_volumes
    ]


def label_inputs(wildcards):
    """What tells of a volume's labels, where they are used; of training volumes all, since each has to show all classes."""
    inputs = {"survey": receipt("survey", wildcards.volume)}
    if wildcards.volume in CONFIG.labelled_volumes:
        inputs["intensity_statistics"] = receipt(
            "intensity_statistics", wildcards.volume
        )
        inputs["targets"] = range_receipts("targets", wildcards.volume)
    if wildcards.volume in TRAINING_VOLUMES:
        inputs["training_targets"] = [
            r for name in TRAINING_VOLUMES for r in range_receipts("targets", name)
        ]
    return inputs


def chosen_threshold(wildcards):
    """The sweep that chooses the threshold, where the configuration says `auto`."""
    if wildcards.store == "segmentation" and CONFIG.segment.threshold == "auto":
        return {"threshold": receipt("choose_threshold", "all")}
    return {}


def segment_inputs(wildcards):
    """What a block range is made from: its own probabilities, for a watershed those around it as well."""
    ours = wildcards.store == "segmentation"
    layout = surveyed(wildcards.volume)
    watershed = ours and CONFIG.segment.method == "watershed" and layout is not None
    margin = watershed_halo(layout) if watershed else (0, 0, 0)
    return {
        "survey": receipt("survey", wildcards.volume),
        "made": receipts_around("predict" if ours else "ingest", wildcards, margin),
        "damage": damage_of(
            "segment", wildcards.volume, wildcards.store, wildcards.block_range
        ),
        **chosen_threshold(wildcards),
    }


def watershed_halo(layout):
    """How far around a block a watershed reads."""
    from unet.segmentation.watershed import (
        WatershedParameters,
    )  # for a watershed alone, since every job reads this file

    return WatershedParameters.of(CONFIG.segment, layout.voxel_size_nm).halo


def merge_inputs(wildcards):
    inputs = {
        "survey": receipt("survey", wildcards.volume),
        "segmented": range_receipts("segment", wildcards.volume, wildcards.store),
        "damage": damage_of("merge", wildcards.volume, wildcards.store),
    }
    if wildcards.store == "segmentation" and CONFIG.segment.has_graph:
        inputs["edges"] = range_receipts("region_graph", wildcards.volume)
        if CONFIG.segment.agglomerate.threshold == "auto":
            inputs["threshold"] = receipt("choose_agglomeration_threshold", "all")
    return inputs


def segment_settings(store, leave_out):
    """Section `segment` for a store: annotated classes are labelled by defaults, whatever results are."""
    return settings(
        CONFIG.segment if store == "segmentation" else SegmentConfig(), leave_out
    )


def evaluation_inputs(wildcards):
    inputs = {
        "survey": receipt("survey", wildcards.volume),
        "sweep": receipt("threshold_sweep", wildcards.volume),
        "segmented": range_receipts("relabel", wildcards.volume, "segmentation"),
        "targets": range_receipts("targets", wildcards.volume),
        "stale": stale("evaluate", wildcards.volume),
        "checked": checked([wildcards.volume]),
    }
    if CONFIG.evaluate.threshold_volumes:
        inputs["threshold"] = receipt("choose_threshold", "all")
    return inputs


def sampled(wildcards):
    """The image files of a volume that the rule `sample` makes."""
    own = f"volumes.{wildcards.volume}."
    given = [path for key, path in source_files(CONFIG).items() if key.startswith(own)]
    return [file for file in SAMPLED if Path(file) in given]


def check_sources():
    """Image files that are missing, or must not be read, stop the run before the first job."""
    missing = [
        problem
        for key, path in source_files(CONFIG).items()
        if path not in map(Path, SAMPLED)
        and (problem := problem_of_input(key, path)) is not None
    ]
    if workflow.is_main_process:
        try:
            missing += [
                f"{key}: there is no Zarr store at {address}"
                for key, address in source_addresses(CONFIG).items()
                if not is_zarr(*split_url(address))
            ]
        except AddressError as error:
            raise WorkflowError(str(error)) from None
    if missing:
        here = f"Paths count from the working directory {Path.cwd()}."
        problems = with_config_files("\n".join(missing))
        raise WorkflowError(f"Input files cannot be read:\n{problems}\n{here}")
    if workflow.is_main_process:
        check_skeletons()
        check_peers()


def check_given_model():
    """A model of other classes than are scored stops the run before the first job; no job depends on what is scored."""
    if CONFIG.model.checkpoint is None:
        return
    # Imported when they are needed: every job reads this file.
    from unet.network.compatibility import IncompatibleModelError, require_classes
    from unet.network.model_header import ModelFileError, read_header

    scored = {
        name: CONFIG.volumes[name].class_names for name in CONFIG.evaluate.volumes
    }
    try:
        header = read_header(Path(CONFIG.model.checkpoint))
        foreground = [name for name in CONFIG.segment.classes if name]
        require_classes(header, CONFIG.model.checkpoint, scored, foreground)
    except (IncompatibleModelError, ModelFileError) as error:
        raise WorkflowError(str(error)) from None


def warn_of_keys_without_effect():
    """What is set and not read; said by the process that is started, not by its jobs."""
    for sentence in unused_keys(CONFIG):
        logger.warning(f"Configuration: {sentence}")


def check_skeletons():
    """Skeletons that cannot be read stop the run before the first job."""
    for name in CONFIG.evaluate.volumes:
        given = CONFIG.volumes[name].skeletons
        try:
            if given:
                read_skeletons(Path(given.files), given.unit_nm)
        except SkeletonError as error:
            raise WorkflowError(f"volumes.{name}.skeletons.files: {error}") from None


def check_peers():
    """Others' segmentations that cannot be compared stop the run before the first job."""
    for name in CONFIG.evaluate.volumes:
        volume = CONFIG.volumes[name]
        if volume.compare and not is_sample(CONFIG, volume):
            # Imported when it is needed: every job reads this file.
            from unet.evaluation.comparison import open_reference_segmentation
            from unet.volumes.readers.open import SourceError

            try:
                for address in volume.compare.values():
                    open_reference_segmentation(address, volume)
            except SourceError as error:
                raise WorkflowError(f"volumes.{name}.compare: {error}") from None


def damage_of(rule, *path):
    """The note that a job's files were deleted or cut short, as an input of the job."""
    return STALE_MARKERS.of(Path(receipt(rule, *path)))


def is_dry_run():
    """Whether nothing may be changed; while a Snakefile is read, only the command line tells."""
    return any(re.fullmatch(r"-[a-z]*n[a-z]*|--dry-?run", word) for word in sys.argv)


def note_damage():
    """Note which receipts do not hold any more: their jobs run again. `verify` finds the damage itself."""
    if not workflow.is_main_process or {"verify", "plan"} & set(sys.argv):
        return
    try:
        damaged = [*invalid_receipts(Path(RESULTS)), *lost_model()]
        for path, problem in damaged:
            logger.warning(f"{path}: {problem}; the job runs again")
            STALE_MARKERS.write(path, problem)
    except AddressError as error:
        raise WorkflowError(str(error)) from None


def lost_model():
    """The receipt of the training, and what of its outputs is missing; nothing where none is, or a model is given."""
    if CONFIG.model.checkpoint:
        return
    made = Path(receipt("train", "model"))
    model = Path(RESULTS) / "model"
    problem = missing_copies(model / "model.pt", model / "training.jsonl", made)
    if problem:
        yield made, problem


def print_plan():
    """A dry run of `plan` prints it, as the job itself would, but writes nothing."""
    from unet.run.plan.table import as_text
    from unet.run.plan.planner import plan_run

    print(as_text(plan_run(CONFIG, PREDICT_THREADS)))


STALE_MARKERS = StaleMarkers(dry_run=is_dry_run())
check_sources()
if workflow.is_main_process:
    check_given_model()
    warn_of_keys_without_effect()
note_damage()
if workflow.is_main_process and "plan" in sys.argv and is_dry_run():
    print_plan()
