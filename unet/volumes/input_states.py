"""Compare the user's files with their states when a result was made. A result of other files is computed again.

1. The state of a file is its name, size and time of modification; the state of an object in a store is its entity tag.
2. A rule that reads the user's files records one digest of their states per input in its receipt.
3. Before a run the states are taken again and compared.

Any difference counts, not only a later time, because a file may be replaced by an older file. One change is not
noticed: new content of the same length with the time of modification set back.

```
then  receipts/survey/train.json  "input_states": {"settings": "1f..", "raw: raw.tif": "9a..", "labels: l.zarr": "c0.."}
now                                               {"settings": "1f..", "raw: raw.tif": "9a..", "labels: l.zarr": "77.."}
      the labels have changed, so the survey runs again
```
"""

import os
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

from unet.config.storage import StorageConfig
from unet.config.volumes import VolumeConfig
from unet.geometry.box import Box
from unet.storage.address import AddressError, is_address
from unet.storage.backends import file_state, links_of
from unet.storage.digests import fingerprint
from unet.volumes.readers.errors import SourceError
from unet.volumes.readers.hdf5 import Hdf5Source
from unet.volumes.readers.open import HDF5_SUFFIXES, open_source, split_address
from unet.volumes.readers.zarr import ZarrSource, is_zarr

SCORED_WITH = ("compare", "skeletons", "label_check")
"""Keys of a volume that only its scores depend on."""
SURVEYED_WITH = ("missing_chunks",)
"""Keys of a volume that only rule `survey` reads."""

InputStates = dict[str, str]
"""Digest of the state of each input of a result, by the key of the input."""


def survey_input_states(volume: VolumeConfig, storage: StorageConfig, code: str) -> InputStates:
    """Return the states that rule `survey` depends on: settings, code, intensities, labels and mask."""
    given = {key: value for key in ("raw", "labels", "mask") if (value := getattr(volume, key)) is not None}
    settings = volume.model_dump(mode="json", exclude=set(SCORED_WITH))
    return {
        "settings": fingerprint(volume=settings, storage=storage.model_dump(mode="json"), code=code),
        **{f"{key}: {address}": input_state(address, volume.sections) for key, address in _each(given)},
    }


def evaluation_input_states(volume: VolumeConfig) -> InputStates:
    """Return the states of the inputs that only rule `evaluate` reads: other segmentations, and skeletons."""
    given: dict[str, Any] = {f"compare.{name}": address for name, address in volume.compare.items()}
    if volume.skeletons is not None:
        given["skeletons.files"] = volume.skeletons.files
    return {f"{key}: {address}": input_state(address, volume.sections) for key, address in _each(given)}


def model_input_states(checkpoint: Path | str | None) -> InputStates:
    """Return the state of a given model file; empty without one."""
    return {} if checkpoint is None else {f"model.checkpoint: {checkpoint}": input_state(str(checkpoint))}


def changed_inputs(then: Any, now: InputStates) -> list[str]:
    """Return the keys of the inputs whose states differ from the recorded states.

    >>> changed_inputs({"raw": "9a", "mask": "c0"}, {"raw": "77", "labels": "1f"})
    ['labels', 'mask', 'raw']
    """
    before = then if isinstance(then, dict) else {}
    return sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))


def input_state(address: str, sections: tuple[int, int] | None = None) -> str:
    """Return one digest of the state of all files that an address of the configuration names.

    No voxel is read. Of the files' content only the metadata of Zarr and HDF5 are read, which name further files. Of a
    Zarr array only the chunks in `sections` count. An input that cannot be read has a state as well.

    Raises
    ------
    AddressError
        If a server cannot be reached.
    """
    try:
        return _sum_of(_states(address, sections))
    except (OSError, SourceError) as error:
        if isinstance(error, AddressError):
            raise
        return f"not readable: {type(error).__name__}"


def _states(address: str, sections: tuple[int, int] | None) -> Iterable[list[Any]]:
    path, inner = (None, None) if is_address(address) else split_address(address)
    if path is None or inner or path.suffix.lower() in (".zarr", *HDF5_SUFFIXES) or (path.is_dir() and is_zarr(path)):
        source = open_source(address)
        if isinstance(source, ZarrSource | Hdf5Source):
            first, stop = sections or (0, source.shape[0])
            return source.listed(Box((first, 0, 0), (min(stop, source.shape[0]), *source.shape[1:])))
    assert path is not None
    if not path.is_dir():
        return [*links_of(path), [path.name, *file_state(path)]]
    with os.scandir(path) as entries:
        visible = [entry for entry in entries if not entry.name.startswith(".") and entry.is_file()]
        return [*links_of(path), *([entry.name, *file_state(entry.path)] for entry in visible)]


def _sum_of(states: Iterable[list[Any]]) -> str:
    """Return one digest of a set of states. The digest does not depend on their order."""
    return f"{sum(int(blake2b(repr(tuple(state)).encode(), digest_size=16).hexdigest(), 16) for state in states):x}"


def _each(given: Mapping[str, str | list[str]]) -> list[tuple[str, str]]:
    """Return key and address of each input. A list of addresses has one key per address.

    >>> _each({"raw": ["a.tif", "b.tif"], "mask": "c.tif"})
    [('raw.0', 'a.tif'), ('raw.1', 'b.tif'), ('mask', 'c.tif')]
    """
    found = []
    for key, value in given.items():
        found += [(key, value)] if isinstance(value, str) else [(f"{key}.{i}", one) for i, one in enumerate(value)]
    return found
