"""What a run needs of the machine before its first job: cores, and a folder that can be written."""

import os
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
