"""Choose the objects that get a mesh or a skeleton, and find those that are done already."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unet.jobs.journal import file_sizes
from unet.storage.files import read_json, write_json


class ChoiceError(ValueError):
    """An object is chosen that is not there; the message says which ids there are."""


def chosen_ids(key: str, sizes: NDArray[np.int64], first_id: int, ids: Sequence[int] | None, largest: int) -> list[int]:
    """Return the ids of the chosen objects: those that are named, or else the largest ones.

    Parameters
    ----------
    key : key of the configuration that names objects, for the message
    sizes : (objects,) voxels of each object; ids are consecutive from `first_id`
    ids : ids that are named; None = the largest objects
    largest : number of objects, of equal ones those of smaller ids

    Raises
    ------
    ChoiceError
        If there is no object of a named id.

    >>> chosen_ids("meshes.ids.a", np.array([5, 9, 9, 1]), 10, None, 2)
    [11, 12]
    """
    last = first_id + len(sizes) - 1
    if ids is None:
        return (first_id + np.argsort(-np.asarray(sizes), kind="stable")[:largest]).tolist()
    for one in ids:
        if not first_id <= one <= last:
            raise ChoiceError(f"{key}: there is no object {one}; the ids of the volume are {first_id} to {last}")
    return list(dict.fromkeys(ids))


def made_once(
    record: Path, fingerprint: str, make: Callable[[], tuple[list[Path], dict[str, float]]]
) -> dict[str, float]:
    """Return the figures of an object whose files are made, unless a record says that they are there already.

    Parameters
    ----------
    record : file that holds what was made; it is written last
    fingerprint : digest of everything that the files depend on
    make : function that writes files, and returns them with figures of the object
    """
    if record.exists():
        known = read_json(record)
        if known["fingerprint"] == fingerprint and _are_there(record, known["files"]):
            return dict(known["figures"])
    files, figures = make()
    write_json(record, {"fingerprint": fingerprint, "files": file_sizes(files, record), "figures": figures})
    return figures


def recorded_files(record: Path) -> list[Path]:
    """Return the files of an object that a record names."""
    return [(record.parent / name).resolve() for name in read_json(record)["files"]]


def _are_there(record: Path, sizes: dict[str, int]) -> bool:
    paths = {record.parent / name: size for name, size in sizes.items()}
    return all(path.is_file() and path.stat().st_size == size for path, size in paths.items())
