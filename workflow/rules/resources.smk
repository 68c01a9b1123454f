# Resources of jobs: threads, GPUs, memory in MB, and time in minutes.
#
# Inputs:  none
# Outputs: none

from unet.jobs.devices import machine_has_gpu
from unet.run.plan.resources import memory_mb, minutes

# With predict.workers: slurm the workers use the GPUs, not the jobs.
PREDICT_GPUS = 1 if CONFIG.predict.workers == "local" else 0
TRAIN_THREADS = 8 * CONFIG.train.gpus
# Memory and time where nothing reads them, see `is_needed`.
NOT_COUNTED = 1


def predict_threads():
    """Return the threads of a prediction: 4 beside a GPU; else the cores, divided by N of `--resources gpu=N`."""
    given = workflow.resource_settings
    cores, jobs = given.cores, given.resources.get("gpu")
    jobs = getattr(jobs, "value", jobs)
    return max(1, cores // jobs) if cores and jobs and not machine_has_gpu() else 4


PREDICT_THREADS = predict_threads()


def is_needed():
    """Return whether anything reads the memory and time of jobs: a scheduler (`--jobs`), or limits on the command line.

    Counting them takes seconds, mostly to load PyTorch. A job reads this file too, and has what it was given.
    """
    given = workflow.resource_settings
    limited = {"mem", "mem_mb", "runtime"} & set(given.resources)
    return IS_MAIN and (given.nodes is not None or bool(limited))


IS_NEEDED = is_needed()


@per_job
def volumes_of(wildcards):
    """Return the volumes of a job whose headers can be read: its own, else all that are used."""
    named = "volume" in wildcards.keys()
    names = [wildcards.volume] if named else CONFIG.used_volumes
    return tuple(name for name in names if LAYOUTS.get(name))


def memory(name):
    """Return the memory of a rule's jobs in MB, where it is needed; more when a job is tried again."""
    if not IS_NEEDED:
        return NOT_COUNTED
    return lambda wildcards, threads, attempt: attempt * estimated_memory(
        name, volumes_of(wildcards), threads
    )


def time_limit(name):
    """Return the time of a rule's jobs in minutes, where it is needed; more when a job is tried again."""
    if not IS_NEEDED:
        return NOT_COUNTED
    return lambda wildcards, attempt: attempt * estimated_minutes(
        name, volumes_of(wildcards)
    )


@cache
def estimated_memory(name, volumes, threads):
    layouts = {volume: LAYOUTS.get(volume) for volume in volumes}
    return memory_mb(name, CONFIG, layouts, threads)


@cache
def estimated_minutes(name, volumes):
    return minutes(name, CONFIG, {volume: LAYOUTS.get(volume) for volume in volumes})
