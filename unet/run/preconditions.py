"""What a run needs of the machine before its first job: cores, its input files, and a folder that can be written."""

import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from tempfile import mkdtemp


def problem_of_cores(cores: int | None, jobs: int | None) -> str | None:
    """What is wrong with `--cores` and `--jobs`; with none of them Snakemake would wait for ever.

    >>> problem_of_cores(0, None)
    '--cores is 0, but a job needs at least 1: say --cores 4, or --cores all'
    """
    for option, number in (("--cores", cores), ("--jobs", jobs)):
        if number is not None and number < 1:
            every = ", or --cores all" if option == "--cores" else ""
            return f"{option} is {number}, but a job needs at least 1: say {option} 4{every}"
    return None


def problem_of_rules(named: Mapping[str, Iterable[str]], rules: Sequence[str]) -> str | None:
    """Which option names a rule that there is not; Snakemake would ignore the option without a word.

    A name with a slash or a point is a file, which some options take as well.

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
    """Why a file or folder of the user cannot be read, and what may have been meant; None if it can.

    Its content is not looked at.
    """
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


def _meant(path: Path) -> str:
    """A similar name beside a file that is not there, else the nearest folder that is."""
    if path.is_symlink():
        return f"it is a link to {path.readlink()}, which is not there"
    if set("*?") & set(path.name):
        return "patterns are not read: name the folder of the sections"
    above = next((folder for folder in path.parents if folder.is_dir()), Path())
    missing = path.relative_to(above).parts[0]
    similar = get_close_matches(missing, os.listdir(above) if os.access(above, os.R_OK) else [], n=1)
    if similar:
        return f"did you mean {above / similar[0]}?"
    return f"correct the path, or bring it: there is no {missing} in the folder {above.absolute()}"


def problem_of_folder(key: str, folder: Path, may_try: bool) -> str | None:
    """Why nothing can be written in a folder, which need not be there yet; None if something can.

    Parameters
    ----------
    key
        Where the folder is configured.
    may_try
        Whether a folder may be made in it, and removed at once. Rights alone do not tell all: a file system may be
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
