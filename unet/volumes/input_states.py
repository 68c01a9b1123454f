"""Compare the user's files with their states when a result was made. A result of other files is computed again.

1. The state of a file is its name, size and time of modification; the state of an object in a store is its entity tag.
2. A rule that reads the user's files records one digest of their states per input in its receipt.
3. Before a run the states are taken again and compared.

Any difference counts, not only a later time, because a file may be replaced by an older file. New content of the same
length, with the time of modification set back, has the same state (`unet.run.hidden_edits`).

```
then  receipts/survey/train.json  "input_states": {"settings": "1f..", "raw: raw.tif": "9a..", "labels: l.zarr": "c0.."}
now                                               {"settings": "1f..", "raw: raw.tif": "9a..", "labels: l.zarr": "77.."}
      the labels have changed, so the survey runs again
```
"""

import os
from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path
from typing import Any

from unet.config.source import SourceConfig
from unet.config.storage import StorageConfig
from unet.config.volumes import VolumeConfig
from unet.geometry.box import Box
from unet.storage.address import AddressError, is_address, split_path
from unet.storage.digests import fingerprint
from unet.storage.file_patterns import is_pattern, matching_files
from unet.storage.local_folder import file_state, links_of
from unet.volumes.readers.errors import SourceError

SCORED_WITH = ("compare", "skeletons", "label_check", "inside")
"""Keys of a volume that only its scores, or the tables of its objects, depend on."""
SURVEYED_WITH = ("missing_chunks",)
"""Keys of a volume that only rule `survey` reads."""

SETS = (".ome.", "_MMStack", "NDTiffStack")
"""Marks in the names of files that may be one image together."""

InputStates = dict[str, str]
"""Digest of the state of each input of a result, by the key of the input."""


def survey_input_states(volume: VolumeConfig, storage: StorageConfig, code: str) -> InputStates:
    """Return the states that rule `survey` depends on: settings, code, intensities, labels and mask."""
    settings = volume.model_dump(mode="json", exclude=set(SCORED_WITH))
    return {
        "settings": fingerprint(volume=settings, storage=storage.model_dump(mode="json"), code=code),
        **{
            f"{key}: {given.path}": input_state(given, _sections(volume, given))
            for key, given in volume.sources.items()
        },
    }


def evaluation_input_states(volume: VolumeConfig) -> InputStates:
    """Return the states of the inputs that only rule `evaluate` reads: other segmentations, and skeletons."""
    given = {f"compare.{name}": other for name, other in volume.compare.items()}
    states = {f"{key}: {other.path}": input_state(other, _sections(volume, other)) for key, other in given.items()}
    if volume.skeletons is not None:
        files = volume.skeletons.files
        states[f"skeletons.files: {files}"] = input_state(SourceConfig(path=files))
    return states


def inside_input_states(volume: VolumeConfig) -> InputStates:
    """Return the states of the inputs that only rule `objects` reads: what is counted inside the objects."""
    return {
        f"inside.{name}: {given.path}": input_state(given, _sections(volume, given))
        for name, given in volume.inside.items()
    }


def model_input_states(checkpoint: Path | str | None) -> InputStates:
    """Return the state of a given model file; empty without one."""
    return (
        {}
        if checkpoint is None
        else {f"model.checkpoint: {checkpoint}": input_state(SourceConfig(path=str(checkpoint)))}
    )


def changed_inputs(then: Any, now: InputStates) -> list[str]:
    """Return the keys of the inputs whose states differ from the recorded states.

    >>> changed_inputs({"raw": "9a", "mask": "c0"}, {"raw": "77", "labels": "1f"})
    ['labels', 'mask', 'raw']
    """
    before = then if isinstance(then, dict) else {}
    return sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))


def input_state(given: SourceConfig | str, sections: tuple[int, int] | None = None) -> str:
    """Return one digest of the state of all files that a source of the configuration names.

    No voxel is read. Of the files' content only the metadata of Zarr and HDF5 are read, which name further files. Of a
    Zarr array only the chunks in `sections` count. An input that cannot be read has a state as well.

    Raises
    ------
    AddressError
        If a server cannot be reached.
    """
    given = SourceConfig(path=given) if isinstance(given, str) else given
    try:
        return _sum_of(_states(given, sections))
    except (OSError, SourceError) as error:
        if isinstance(error, AddressError):
            raise
        return f"not readable: {type(error).__name__}"


def _sections(volume: VolumeConfig, given: SourceConfig) -> tuple[int, int] | None:
    """Return the sections of a source that a volume takes; None for all of them, as of labels of a part."""
    if given not in volume.raw:
        return None
    return volume.sections or (volume.crop and volume.crop[0])


def _states(given: SourceConfig, sections: tuple[int, int] | None) -> Iterable[list[Any]]:
    # imported when they are needed, since every start of the workflow reads this module
    from unet.volumes.readers import section_files, tiff
    from unet.volumes.readers.open import format_of, open_source

    path = None if is_address(given.path) else split_path(given.path)[0]
    if path is None or format_of(path) not in (None, tiff.FORMAT, section_files.FORMAT):
        source = open_source(given)
        first, stop = sections or (0, source.shape[0])
        return source.listed(Box((first, 0, 0), (min(stop, source.shape[0]), *source.shape[1:])))
    if is_pattern(path):
        return [*links_of(path.parent), *([file.name, *file_state(file)] for file in matching_files(path))]
    if not path.is_dir():
        return [*links_of(path), *([file.name, *file_state(file)] for file in _set_of(path))]
    with os.scandir(path) as entries:
        visible = [entry for entry in entries if not entry.name.startswith(".") and entry.is_file()]
        return [*links_of(path), *([entry.name, *file_state(entry.path)] for entry in visible)]


def _set_of(path: Path) -> list[Path]:
    """Return the files that an image may consist of: for sets of OME-TIFF and Micro-Manager all such files beside it.

    Which files belong to a set stands in their headers. Reading these at every start would take too long.
    """
    mark = next((mark for mark in SETS if mark in path.name), None)
    return [path] if mark is None else sorted({path, *path.parent.glob(f"*{mark}*")})


def _sum_of(states: Iterable[list[Any]]) -> str:
    """Return one digest of a set of states. The digest does not depend on their order."""
    return f"{sum(int(blake2b(repr(tuple(state)).encode(), digest_size=16).hexdigest(), 16) for state in states):x}"
