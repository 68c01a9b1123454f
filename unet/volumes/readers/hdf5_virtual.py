"""Check the sources of virtual HDF5 datasets, whose voxels lie in other datasets, mostly in other files.

```
raw.h5:/data (3, 80, 72)    section 0 <- raw-0.h5:/data    section 1 <- raw-1.h5:/data    section 2 <- raw-2.h5:/data
```

HDF5 gives the fill value, mostly 0, where a source is missing, and says nothing. So each source that a box needs is
looked at before the box is read.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from glob import escape
from math import prod
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from unet.volumes.readers.errors import SourceError, read_errors
from unet.volumes.readers.hdf5_storage import Ranges, external_files, missing_chunks_of, require_filters, require_stored

NUMBER = re.compile(r"(?<!%)((?:%%)*)%b")
"""The number of a block in a name of a file or dataset, as in `section-%b.h5`."""


@dataclass(frozen=True)
class Mapping:
    """A part of a virtual dataset, and the dataset from which its voxels are.

    Attributes
    ----------
    file : Path
        File of the source; if it is in none of the folders where HDF5 looks, the first of them.
    name : str
        Dataset in the file.
    ranges : tuple of slice
        Bounds of the part in the virtual dataset.
    source : tuple of slice, or None
        Bounds in the source; None for all of the source.
    count : int or None
        Number of voxels of the part; None if it ends where its source ends.
    """

    file: Path
    name: str
    ranges: Ranges
    source: Ranges | None
    count: int | None

    def touches(self, selection: Ranges) -> bool:
        """Return whether a selection of the virtual dataset has voxels of this part."""
        return all(a.start < b.stop and b.start < a.stop for a, b in zip(self.ranges, selection, strict=True))

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Return whether a source of a shape can hold the part. Of another shape its voxels would be out of place."""
        if self.source is not None:
            return len(shape) == len(self.source) and all(s.stop <= n for s, n in zip(self.source, shape, strict=True))
        lengths = [s.stop - s.start for s in self.ranges]
        if self.count is None:
            return True
        if self.count != prod(lengths):
            return self.count == prod(shape)
        return [n for n in lengths if n > 1] == [n for n in shape if n > 1]


class VirtualSources:
    """All sources of a virtual dataset. It may be sent to other processes.

    Parameters
    ----------
    dataset : h5py.Dataset
        A virtual dataset of an open file.
    address : str
        Address of the source, for messages.
    above : tuple
        Virtual datasets that have this one as a source.
    """

    def __init__(self, dataset: h5py.Dataset, address: str, above: tuple[tuple[Path, str], ...] = ()) -> None:
        here = Path(dataset.file.filename).resolve(), str(dataset.name)
        if here in above:
            raise SourceError(f"{address}: the virtual dataset {dataset.name} of {here[0]} has itself as a source")
        self._address, self._above = address, (*above, here)
        self._shape, self._dtype = dataset.shape, dataset.dtype
        self.mappings = [one for source in dataset.virtual_sources() for one in _mappings(source, dataset, address)]
        self._checked: set[int] = set()

    def __getstate__(self) -> dict[str, Any]:
        """Return what another process needs, which looks at the sources itself."""
        return self.__dict__ | {"_checked": set()}

    def files(self, selection: Ranges | None = None) -> list[Path]:
        """Return the files that a selection needs; without one all files."""
        needed = (one.file for one in self.mappings if selection is None or one.touches(selection))
        return list(dict.fromkeys(needed))

    def require(self, selection: Ranges) -> None:
        """Raise an error if a source of a selection is missing, or if it cannot hold what it has to."""
        needed = [one for one in self.mappings if one.touches(selection)]
        files = dict.fromkeys(one.file for one in needed)
        if missing := [str(file) for file in files if not file.is_file()]:
            raise SourceError(
                f"{self._address}: its voxels lie in {len(files)} other files, of which {len(missing)} are missing, "
                f"the first is {missing[0]}; copy them as well"
            )
        for one in needed:
            if id(one) not in self._checked:
                with read_errors(one.file, "HDF5"), h5py.File(one.file, "r") as file:
                    self._require_source(file, one)
                self._checked.add(id(one))

    def missing(self, selection: Ranges) -> tuple[int, int]:
        """Return how many voxels of a selection no source holds, and how many it has.

        Chunks that a source never wrote count with all their voxels.
        """
        whole = prod(s.stop - s.start for s in selection)
        held = 0.0
        for one in self.mappings:
            inner = [
                max(0, min(a.stop, b.stop) - max(a.start, b.start)) for a, b in zip(one.ranges, selection, strict=True)
            ]
            if all(inner):
                box = prod(s.stop - s.start for s in one.ranges)
                share = 1.0 if one.count is None else one.count / box
                held += prod(inner) * share * (1 - self._missing_share(one))
        return max(0, whole - round(held)), whole

    def _require_source(self, file: h5py.File, one: Mapping) -> None:
        where = f"{self._address}: its voxels lie in {one.file}:{one.name}"
        source = file.get(one.name)
        if not isinstance(source, h5py.Dataset) or source.shape is None:
            raise SourceError(f"{where}, and there is no such dataset; copy or export {one.file} again")
        if not one.fits(source.shape):
            wanted = tuple(s.stop for s in one.source) if one.source else tuple(s.stop - s.start for s in one.ranges)
            raise SourceError(
                f"{where} of shape {source.shape}, but the virtual dataset needs {wanted} of it; export it again"
            )
        if not np.can_cast(source.dtype, self._dtype, "safe"):
            raise SourceError(
                f"{where} of {source.dtype}, which {self._dtype} of the virtual dataset cannot hold; export it again"
            )
        require_filters(source, f"{one.file}:{one.name}")
        require_stored(source, f"{one.file}:{one.name}")
        if source.is_virtual:
            nested = VirtualSources(source, f"{one.file}:{one.name}", self._above)
            nested.require(one.source or _whole(source.shape))

    def _missing_share(self, one: Mapping) -> float:
        with read_errors(one.file, "HDF5"), h5py.File(one.file, "r") as file:
            source = file[one.name]
            ranges = one.source or _whole(source.shape)
            if source.is_virtual:
                missing, count = VirtualSources(source, self._address, self._above).missing(ranges)
            else:
                missing, count = missing_chunks_of(source, ranges)
        return missing / count if count else 0.0


def files_beside(dataset: h5py.Dataset, path: Path) -> list[Path]:
    """Return the other files with voxels, except those of a virtual dataset: behind a link, or of external storage."""
    others = [Path(dataset.file.filename), *(file for file, _, _ in external_files(dataset))]
    return [other for other in dict.fromkeys(others) if other.absolute() != path.absolute()]


def _mappings(source: Any, dataset: h5py.Dataset, address: str) -> Iterator[Mapping]:
    """Return the parts of a virtual dataset that one of its entries describes: several if names have a number."""
    whole, name = _whole(dataset.shape), source.dset_name
    try:
        count = source.vspace.get_select_npoints()
        ranges, inner = _bounds(source.vspace) or whole, _bounds(source.src_space)
    except (RuntimeError, ValueError):  # an axis without an end
        ranges, count, inner = whole, None, None
    one = Mapping(_found(source.file_name, dataset), name.replace("%%", "%"), ranges, inner, count)
    if not (NUMBER.search(source.file_name) or NUMBER.search(name)):
        yield one
        return
    start, stride, counts, block = source.vspace.get_regular_hyperslab()
    axis = next(i for i, n in enumerate(counts) if n == h5py.h5s.UNLIMITED)
    blocks = range(-(-(dataset.shape[axis] - start[axis]) // stride[axis]))
    for b in blocks:
        first = start[axis] + b * stride[axis]
        part = (*whole[:axis], slice(first, min(first + block[axis], dataset.shape[axis])), *whole[axis + 1 :])
        count = prod(s.stop - s.start for s in part)
        file = _found(_numbered(source.file_name, b), dataset)
        yield replace(one, file=file, name=_numbered(name, b).replace("%%", "%"), ranges=part, count=count)
    _refuse_a_gap(source.file_name, len(blocks), dataset, address)


def _refuse_a_gap(pattern: str, count: int, dataset: h5py.Dataset, address: str) -> None:
    """Raise an error if there are sources after the first that is missing, since HDF5 ends the dataset there."""
    if not NUMBER.search(pattern):
        return
    folder, number = Path(dataset.file.filename).parent, re.escape(pattern).replace("%b", r"(\d+)")
    names = folder.glob(escape(pattern).replace("%b", "*")) if not Path(pattern).is_absolute() else ()
    later = [name for name in names if (m := re.search(rf"(?:^|/){number}$", str(name))) and int(m[1]) > count]
    if later:
        raise SourceError(
            f"{address}: its voxels end where the file {_numbered(pattern, count)} is missing, although there are "
            f"{len(later)} later ones, such as {later[0]}; copy it as well"
        )


def _found(name: str, dataset: h5py.Dataset) -> Path:
    """Return the file of a source where HDF5 looks for it: beside the virtual dataset, or in the working folder."""
    own = Path(dataset.file.filename)
    path = Path(name.replace("%%", "%"))
    if str(path) == ".":
        return own
    places = [path, own.parent / path.name] if path.is_absolute() else [own.parent / path, path]
    return next((place for place in places if place.is_file()), places[0])


def _numbered(pattern: str, number: int) -> str:
    return NUMBER.sub(rf"\g<1>{number}", pattern)


def _bounds(space: Any) -> Ranges | None:
    """Return the bounds of the selected voxels of a dataspace; None for all."""
    if space.get_select_type() == h5py.h5s.SEL_ALL:
        return None
    first, last = space.get_select_bounds()
    return tuple(slice(int(a), int(b) + 1) for a, b in zip(first, last, strict=True))


def _whole(shape: tuple[int, ...]) -> Ranges:
    return tuple(slice(0, n) for n in shape)
