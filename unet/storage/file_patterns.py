"""Find the files of a pattern such as `sections/*_c0.tif`. Only the last part of a path may be a pattern."""

import fnmatch
import os
from pathlib import Path


def is_pattern(path: Path) -> bool:
    """Return whether a path is a pattern of file names. A file or folder of this very name is no pattern.

    >>> is_pattern(Path("sections/*_c0.tif")), is_pattern(Path("sections"))
    (True, False)
    """
    return bool(set("*?[") & set(path.name)) and not os.path.lexists(path)


def matching_files(pattern: Path) -> list[Path]:
    """Return the files of a folder that fit a pattern, by name. Hidden files fit only a pattern that begins with a dot.

    Raises
    ------
    OSError
        If the folder cannot be listed.
    """
    hidden = pattern.name.startswith(".")
    names = [name for name in os.listdir(pattern.parent) if fnmatch.fnmatchcase(name, pattern.name)]
    return [pattern.parent / name for name in sorted(names) if hidden or not name.startswith(".")]
