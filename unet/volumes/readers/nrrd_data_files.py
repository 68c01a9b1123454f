"""Find the files with the voxels of an NRRD header: one file, numbered files, or a list.

```
data file: a.raw                     one file
data file: s%03d.raw 1 100 1         s001.raw, s002.raw ... s100.raw: first, last, step
data file: s%03d.raw 1 50 1 3        the same of slabs with three axes each
data file: LIST                      the files are named in the lines that follow, up to the end of the header
```

https://teem.sourceforge.net/nrrd/format.html#detached
"""

import re
from collections.abc import Sequence
from math import prod
from pathlib import Path

from unet.geometry.box import Index
from unet.volumes.readers.errors import SourceError

INTEGER = re.compile(r"-?\d+")
LIST = re.compile(r"LIST(?:\s+(?P<axes>\d+))?")
NUMBER = re.compile(r"%(0?)(\d{0,2})[diu]")
TOLD = 3
"""Missing files that a message names; others are counted."""


def data_files(path: Path, given: str, listed: Sequence[str], sizes: Index) -> tuple[list[Path], Index]:
    """Return the files with the voxels, and the shape of what each of them holds.

    Parameters
    ----------
    path : Path
        The header.
    given : str
        Its field `data file`.
    listed : sequence of str
        The lines behind that field.
    sizes : tuple of int
        Lengths of the axes, the fastest first.

    Raises
    ------
    SourceError
        If the files are not as many as the sizes need, if one is missing, or lies outside the folder of the header.
    """
    if (match := LIST.fullmatch(given)) is not None:
        names = [line.strip() for line in listed if line.strip()]
        held = _shape_of_file(path, given, len(names), match["axes"], sizes)
    elif (found := _numbered(given)) is not None:
        form, (first, last, step, *axes) = found
        numbers = _numbers(path, given, int(first), int(last), int(step))
        held = _shape_of_file(path, given, len(numbers), axes[0] if axes else None, sizes)
        names = [_name(path, form, number) for number in numbers]
    else:
        names, held = [given], sizes
    return _there(path, names), held


def _numbered(given: str) -> tuple[str, list[str]] | None:
    """Return the name with the place of the number, and the three or four numbers behind it; None for one file."""
    for count in (4, 3):
        form, *numbers = given.rsplit(None, count)
        if len(numbers) == count and "%" in form and all(map(INTEGER.fullmatch, numbers)):
            return form, numbers
    return None


def _numbers(path: Path, given: str, first: int, last: int, step: int) -> range:
    if step == 0:
        raise SourceError(f"{path}: `data file: {given}` counts in steps of 0; correct the header")
    return range(first, last + (1 if step > 0 else -1), step)


def _name(path: Path, form: str, number: int) -> str:
    """Return the name of a file with a number, by a format of C."""
    found = NUMBER.findall(form)
    if len(found) != 1 or form.count("%") != 1:
        raise SourceError(
            f"{path}: the name `{form}` of its data files does not hold one number such as %03d; correct the header"
        )
    fill, width = found[0]
    return NUMBER.sub(lambda _: f"{number:{fill}{width}d}", form)


def _shape_of_file(path: Path, given: str, count: int, axes: str | None, sizes: Index) -> Index:
    """Return the shape of what each of some files holds, by the number of its axes; by default one less than all.

    With all axes, files are slabs along the slowest one.
    """
    dimension = len(sizes) - 1 if axes is None else int(axes)
    where = f"{path}: `data file: {given}` names {count} files"
    if not 1 <= dimension <= len(sizes):
        raise SourceError(f"{where} of {dimension} axes, but sizes {sizes} have {len(sizes)}; correct the header")
    if dimension == len(sizes):
        if not count or sizes[-1] % count:
            raise SourceError(
                f"{where}, which cannot share {sizes[-1]} slices alike, sizes {sizes}; correct the header"
            )
        return (*sizes[:-1], sizes[-1] // count)
    needed = prod(sizes[dimension:])
    if count != needed:
        raise SourceError(
            f"{where}, but sizes {sizes} need {needed} files of {' x '.join(map(str, sizes[:dimension]))}; add the "
            "missing ones, or correct the header"
        )
    return sizes[:dimension]


def _there(path: Path, names: Sequence[str]) -> list[Path]:
    """Return the files of some names. They lie in the folder of the header or below, so that no header reads others."""
    folder = path.parent.resolve()
    files = [path.parent / name for name in names]
    for name, file in zip(names, files, strict=True):
        if not file.resolve().is_relative_to(folder):
            raise SourceError(
                f"{path}: its voxels lie in another folder, `data file: {name}`; move that file beside its header, and "
                f"write `{Path(name).name}` into the header"
            )
    missing = [file for file in files if not file.is_file()]
    if missing:
        more = f" and {len(missing) - TOLD} more" if len(missing) > TOLD else ""
        told = ", ".join(str(file) for file in missing[:TOLD])
        verb = "are" if len(missing) > 1 else "is"
        raise SourceError(f"{path}: its voxels lie in {told}{more}, which {verb} not there; copy these files as well")
    return files
