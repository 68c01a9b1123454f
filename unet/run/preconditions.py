"""Check before the first job: cores, input files, the given model, SLURM, and a folder that can be written.

Each function returns what is wrong as a message that says what to do, and None (or nothing) where all is well.
"""

import os
import re
import stat
from collections.abc import Collection, Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from shutil import which
from subprocess import TimeoutExpired, run
from tempfile import mkdtemp
from unicodedata import normalize

from unet.config.inputs import source_addresses, source_files
from unet.config.root import Config
from unet.evaluation.skeletons import SkeletonError, read_skeletons
from unet.storage.address import split_url
from unet.storage.file_patterns import is_pattern, matching_files

SLURM_PATIENCE = 60
"""Seconds in which SLURM's controller answers; a busy controller may need some."""


def is_dry_run(arguments: Sequence[str]) -> bool:
    """Return whether a command line asks for a dry run. Nothing else shows it while a Snakefile is read.

    >>> is_dry_run(["snakemake", "-np"]), is_dry_run(["snakemake", "--dry-run"]), is_dry_run(["snakemake", "plan"])
    (True, True, False)
    """
    return any(re.fullmatch(r"-[a-z]*n[a-z]*|--dry-?run", word) for word in arguments)


def problems_of_files(config: Config, made_here: Collection[str]) -> list[str]:
    """Return the input files that cannot be read.

    Parameters
    ----------
    made_here
        Files that a rule makes, which need not be there yet.
    """
    made = {Path(path) for path in made_here}
    problems = [problem_of_input(key, path) for key, path in source_files(config).items() if path not in made]
    return [problem for problem in problems if problem is not None]


def problems_of_addresses(config: Config) -> list[str]:
    """Return the addresses of the input that hold no volume in a format that is read at addresses.

    Raises
    ------
    AddressError
        If a server cannot be reached.
    """
    addresses = source_addresses(config).items()
    if not addresses:
        return []
    # imported when they are needed, since every start reads this module
    from unet.volumes.readers.n5 import is_n5
    from unet.volumes.readers.precomputed import is_precomputed
    from unet.volumes.readers.zarr import is_zarr

    return [
        f"{key}: there is no Zarr store, N5 or precomputed volume at {url}"
        for key, url in addresses
        if not any(holds(*split_url(url)) for holds in (is_zarr, is_n5, is_precomputed))
    ]


def problem_of_model(config: Config) -> str | None:
    """Return why a given model cannot be scored: it predicts something else, or distinguishes other classes.

    No job depends on what is scored.
    """
    if config.model.checkpoint is None:
        return _problem_of_start(config)
    # imported when they are needed, since every job reads the Snakefile
    from unet.network.compatibility import IncompatibleModelError, require_classes, require_output
    from unet.network.model_header import ModelFileError, read_header

    scored = {name: config.volumes[name].class_names for name in config.evaluate.volumes}
    try:
        header = read_header(Path(config.model.checkpoint))
        require_output(header, config.model.checkpoint, config.model.output)
        if config.model.output == "affinities":
            return None
        foreground = [name for name in config.segment.classes if name]
        require_classes(header, config.model.checkpoint, scored, foreground)
    except (IncompatibleModelError, ModelFileError) as error:
        return str(error)
    return None


def problem_of_skeletons(config: Config) -> str | None:
    """Return the first skeletons that cannot be read, and why."""
    for name in config.evaluate.volumes:
        given = config.volumes[name].skeletons
        try:
            if given:
                read_skeletons(Path(given.files), given.unit_nm)
        except SkeletonError as error:
            return f"volumes.{name}.skeletons.files: {error}"
    return None


def problems_of_compared_volumes(config: Config) -> list[str]:
    """Return what is wrong with the files of volumes that have segmentations of others, and why.

    Rule `survey` does not read these segmentations. If there is a problem, all other volumes are looked at as well,
    which `survey` would report later.
    """
    compared = [name for name in config.evaluate.volumes if config.volumes[name].compare]
    problems = [problem for name in compared if (problem := _problem_of_headers(config, name))]
    others = [name for name in config.used_volumes if name not in compared] if problems else []
    return [*problems, *(problem for name in others if (problem := _problem_of_headers(config, name)))]


def _problem_of_headers(config: Config, name: str) -> str | None:
    """Return the problems of a volume's files that headers show."""
    volume = config.volumes[name]
    if config.is_sample(volume):
        return None
    # imported when they are needed, since every job reads the Snakefile
    from unet.config.label_kinds import AnnotationError
    from unet.volumes.readers.errors import SourceError
    from unet.volumes.sources import open_volume

    try:
        open_volume(volume, compared=name in config.evaluate.volumes)
    except (SourceError, AnnotationError) as error:
        return f"volumes.{name}: {error}"
    return None


def problem_of_cores(cores: int | None, jobs: int | None) -> str | None:
    """Return what is wrong with `--cores` and `--jobs`. With 0 of them Snakemake would wait for ever.

    >>> problem_of_cores(0, None)
    '--cores is 0, but a job needs at least 1: say --cores 4, or --cores all'
    """
    for option, number in (("--cores", cores), ("--jobs", jobs)):
        if number is not None and number < 1:
            every = ", or --cores all" if option == "--cores" else ""
            return f"{option} is {number}, but a job needs at least 1: say {option} 4{every}"
    return None


def problem_of_workers(workers: str, rules_to_run: Collection[str]) -> str | None:
    """Return why no worker can be submitted to SLURM from this machine, if a prediction will ask for one.

    Parameters
    ----------
    workers
        `predict.workers` of the configuration.
    rules_to_run
        Rules that have a job to run.
    """
    if workers != "slurm" or "predict" not in rules_to_run:
        return None
    problem = _problem_of_slurm()
    return problem and (
        f"predict.workers: slurm needs SLURM, but {problem}; start the run on a login node of a cluster, or set "
        "predict.workers: local"
    )


def problem_of_executor(executor: str | None, rules_to_run: Collection[str]) -> str | None:
    """Return why no job can be submitted to SLURM from this machine, if SLURM is asked to run jobs.

    The plugin of Snakemake would repeat the errors of SLURM's programs for each job.

    Parameters
    ----------
    executor
        Name of Snakemake's executor, as `--executor` or a profile gives it.
    rules_to_run
        Rules that have a job to run, without those that run where Snakemake is started.
    """
    if executor != "slurm" or not rules_to_run:
        return None
    problem = _problem_of_slurm()
    return problem and (
        f"executor slurm: {problem}; start the run on a login node of a cluster, or run it on this machine: leave out "
        "--executor, --profile or --workflow-profile, whichever names slurm"
    )


def _problem_of_slurm() -> str | None:
    """Return which program of SLURM is missing, or what `sinfo` says where no cluster answers."""
    for program in ("sbatch", "sinfo"):
        if which(program) is None:
            return f"there is no {program} on this machine"
    try:
        asked = run(["sinfo", "--noheader"], capture_output=True, text=True, timeout=SLURM_PATIENCE, errors="replace")
    except TimeoutExpired:
        return f"SLURM's controller has not answered sinfo within {SLURM_PATIENCE} s"
    except OSError as error:
        return f"sinfo cannot be run ({error.strerror})"
    if asked.returncode == 0:
        return None
    said = [line.removeprefix("sinfo: ") for line in asked.stderr.splitlines() if line.strip()]
    return f"no cluster answers SLURM's commands on this machine (sinfo: {said[-1] if said else asked.returncode})"


def problem_of_rules(named: Mapping[str, Iterable[str]], rules: Sequence[str]) -> str | None:
    """Return the first option that names an unknown rule. Snakemake would ignore the option without a word.

    A name with a slash or a dot is a file, which some options take as well.

    >>> problem_of_rules({"--set-threads": ["trian"]}, ["survey", "train"])
    '--set-threads: no rule is called trian; did you mean train? The rules are survey, train'
    """
    for option, names in named.items():
        for name in names:
            if name not in rules and not set("/.") & set(name):
                similar = get_close_matches(name, rules, n=1)
                meant = f"did you mean {similar[0]}? " if similar else ""
                return f"{option}: no rule is called {name}; {meant}The rules are {', '.join(rules)}"
    return None


def problem_of_input(key: str, path: Path) -> str | None:
    """Return why a file or folder of the user cannot be read, and what may have been meant. Its content is not read."""
    if is_pattern(path) and key.startswith("volumes.") and not key.endswith(".skeletons.files"):
        return _problem_of_pattern(key, path)
    try:
        mode = path.stat().st_mode
    except PermissionError:
        return f"{key}: {path} lies in a folder that you may not enter; ask its owner, or change its rights with chmod"
    except OSError:
        return f"{key}: {path} is not there; {_meant(path)}"
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        return f"{key}: {path} is neither a file nor a folder but a pipe or a device; name an image file"
    needed = os.R_OK | os.X_OK if path.is_dir() else os.R_OK
    if not os.access(path, needed):
        return f"{key}: you may not read {path}; ask its owner, or change its rights with chmod"
    return None


def _problem_of_pattern(key: str, path: Path) -> str | None:
    """Return why no file fits a pattern of file names."""
    if not path.parent.is_dir():
        return problem_of_input(key, path.parent)
    try:
        fits = bool(matching_files(path))
    except PermissionError:
        return f"{key}: you may not read {path.parent}; ask its owner, or change its rights with chmod"
    return None if fits else f"{key}: no file fits {path.name} in {path.parent}; correct the pattern"


def _meant(path: Path) -> str:
    """Return a similar name beside a missing file, else the nearest existing folder."""
    if path.is_symlink():
        return f"it is a link to {path.readlink()}, which is not there"
    if set("*?") & set(path.name):
        return "patterns are read only for images: name the file or the folder"
    above = next((folder for folder in path.parents if folder.is_dir()), Path())
    missing = path.relative_to(above).parts[0]
    names = os.listdir(above) if os.access(above, os.R_OK) else []
    if same := [name for name in names if normalize("NFC", name) == normalize("NFC", missing)]:
        return f"{above / same[0]} looks the same, but its accents are encoded in another way; copy that name"
    similar = get_close_matches(missing, names, n=1)
    if similar:
        return f"did you mean {above / similar[0]}?"
    return f"correct the path, or bring it: there is no {missing} in the folder {above.absolute()}"


def problem_of_folder(key: str, folder: Path, may_try: bool) -> str | None:
    """Return why nothing can be written in a folder, which need not be there yet.

    Parameters
    ----------
    key
        Where the folder is configured.
    may_try
        Whether a folder may be made in it, and removed at once. Rights alone are not enough: a file system may be
        mounted to be read, or be one of the kernel's.
    """
    nearest = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
    below = "" if nearest == folder else f"{nearest}, above it, "
    if not nearest.is_dir():
        what = "a link to nothing" if nearest.is_symlink() and not nearest.exists() else "a file"
        return f"{key}: {folder} cannot be a folder, since {below or 'it '}is {what}; name another folder"
    try:
        if may_try:
            os.rmdir(mkdtemp(prefix=".unet-em-", dir=nearest))
    except OSError as error:
        return (
            f"{key}: nothing can be written in {folder} ({nearest}: {error.strerror}); name a folder that you may write"
        )
    return None


def _problem_of_start(config: Config) -> str | None:
    """Return why a training cannot continue the weights of `train.start_from`, as far as the file's header shows."""
    if config.train.start_from is None:
        return None
    from unet.network.compatibility import IncompatibleModelError, require_same_network
    from unet.network.model_header import ModelFileError, read_header

    classes = config.class_names if config.model.output == "classes" else None
    try:
        require_same_network(
            read_header(Path(config.train.start_from)), config.train.start_from, config.model, outputs=classes
        )
    except (IncompatibleModelError, ModelFileError) as error:
        return str(error)
    return None
