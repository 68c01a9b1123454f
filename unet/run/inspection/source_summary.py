"""Say what would be read of one source: axes, shape, dtype, voxel size, files, grey values, and where each is from."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unet.config.source import SourceConfig
from unet.geometry.box import Box
from unet.jobs.log_line import format_sizes
from unet.run.inspection.label_guess import Role, looks_like
from unet.run.inspection.samples import Sample, read_sample
from unet.run.plan.text import size
from unet.storage.object_storage import CannotList
from unet.volumes.readers.errors import SourceError
from unet.volumes.readers.open import open_source
from unet.volumes.readers.source import Source

CHECKED_SECTIONS = 10_000
"""Largest number of sections whose headers are all read."""
COUNTED_VOXELS = 2**36
"""Largest number of voxels of a volume whose missing chunks are all counted."""
COUNTED_SIDE = 2048
"""Side of the box in the middle of a larger volume whose missing chunks are counted."""
COUNTED_FILES = 10_000
"""Largest number of files whose bytes are added up."""
BINS = 48
LEVELS = " ▁▂▃▄▅▆▇█"
PERCENTILES = (1, 50, 99)


@dataclass(frozen=True, eq=False)
class SourceSummary:
    """Summary of what would be read of a source.

    Attributes
    ----------
    given : SourceConfig
        The source as the user gave it.
    source : Source
        The open source.
    sample : Sample
        Windows of some sections.
    role, role_why : str
        What the source is, and what that follows from.
    missing : str
        Chunks that are not stored, in words; empty where none is missing.
    lines : list of (str, str)
        What else is known, by its name: the guessed kind of labels, for one.
    """

    given: SourceConfig
    source: Source
    sample: Sample
    role: Role
    role_why: str
    missing: str = ""
    lines: list[tuple[str, str]] = field(default_factory=list)

    @property
    def address(self) -> str:
        """Return the path as the user gave it."""
        return self.given.path

    def with_role(self, role: Role, why: str) -> "SourceSummary":
        """Return the summary with another role."""
        return replace(self, role=role, role_why=why)

    def text(self) -> str:
        """Return all of it for people."""
        source = self.source
        channels = f", {source.channels} channels" if source.channels > 1 else ""
        voxel_size = "not stated by the file"
        if source.voxel_size_nm:
            voxel_size = f"{format_sizes(source.voxel_size_nm)} nm (z, y, x), from {source.voxel_size_from}"
        parts = [
            ("shape", f"{format_sizes(source.shape)} voxels (z, y, x){channels}, {source.dtype.name}"),
            ("axes", f"from {source.axes_from}"),
            ("voxel size", voxel_size),
            ("files", files_text(source)),
            *([("not stored", self.missing)] if self.missing else []),
            *grey_lines(self.sample.values, source.dtype, self.role),
            *self.lines,
            *(("WARNING", remark) for remark in source.remarks),
        ]
        told = "\n".join(f"  {name:<12}{text}" for name, text in parts)
        return f"{self.address}: {self.role} ({self.role_why})\n{told}"


def summarise(given: SourceConfig, role: Role | None = None) -> SourceSummary:
    """Open a source, check its headers, and read a sample. At most some windows of `samples.WINDOW_PX` are in memory.

    Parameters
    ----------
    given : SourceConfig
        The source as the user gave it.
    role : str, optional
        What the source is, if the user says so; else it is guessed.

    Raises
    ------
    SourceError
        If the source cannot be opened or read.
    """
    source = open_source(given, colours=role != "raw")
    if source.shape[0] <= CHECKED_SECTIONS:
        source.check(Box.of_shape(source.shape))
    sample = read_sample(source)
    guessed, why = looks_like(sample.values)
    if role is not None:
        guessed, why = role, f"as --{role} says"
    if guessed == "raw" and source.colours is not None and given.channels is None:
        raise SourceError(source.colours)
    return SourceSummary(given, source, sample, guessed, why, missing_text(source))


def missing_text(source: Source) -> str:
    """Return how many chunks are not stored; of a huge volume in its middle alone."""
    box, place = Box.of_shape(source.shape), ""
    if box.size > COUNTED_VOXELS:
        start = [max(0, (n - COUNTED_SIDE) // 2) for n in source.shape]
        box = Box(tuple(start), tuple(lo + COUNTED_SIDE for lo in start)).clipped(source.shape)
        place = f" in the box {box} (z, y, x)"
    try:
        missing = [one for one in source.missing_chunks(box) if one.missing]
    except CannotList as error:
        return f"not counted: {error}"
    counts = [f"{one.missing:,} of {one.count:,} {one.kind}, read as {one.fill_value:g}{place}" for one in missing]
    return "; ".join(counts)


def files_text(source: Source) -> str:
    """Return the number of files, chunks included, and their size where it is known."""
    box = Box.of_shape(source.shape)
    if box.size <= COUNTED_VOXELS and len(source.files) <= COUNTED_FILES:
        # of a link the target is told instead of bytes
        sizes = [one[1] for one in source.listed(box) if isinstance(one[1], int)]
        return _files_and_bytes(len(sizes), sum(sizes))
    files = [path for path in source.files if path.is_file()]
    if not files:
        folder = source.files[0] if source.files else Path(source.address)
        return f"in {folder}"
    bytes_ = sum(path.stat().st_size for path in files[:COUNTED_FILES]) * len(files) / len(files[:COUNTED_FILES])
    return _files_and_bytes(len(files), bytes_)


def _files_and_bytes(count: int, bytes_: float) -> str:
    return f"{count:,} file{'s' * (count != 1)}, {size(bytes_)}"


def grey_lines(values: NDArray, dtype: np.dtype, role: Role) -> list[tuple[str, str]]:
    """Return range, percentiles and histogram of sampled values as lines of text; for ids their number alone."""
    low, high = values.min(), values.max()
    seen = f"{len(values)} section{'s' * (len(values) != 1)} sampled"
    if role == "labels" or dtype.itemsize > 4 or dtype.name in ("uint32", "int32"):
        return [("values", f"{len(np.unique(values)):,} different ones, {low} to {high}; {seen}")]
    percentiles = ", ".join(f"{value:g}" for value in np.percentile(values, PERCENTILES))
    return [
        ("grey values", f"{low:g} to {high:g}; percentiles 1, 50, 99: {percentiles}; {seen}"),
        ("histogram", f"{float(low):g} |{text_histogram(values)}| {float(high):g}"),
    ]


def text_histogram(values: NDArray, bins: int = BINS) -> str:
    """Return the histogram of values from the least to the largest as one line, higher blocks for more voxels.

    >>> text_histogram(np.array([0, 0, 0, 0, 1, 1, 2]), bins=3)
    '█▄▂'
    """
    counts, _ = np.histogram(values, bins)
    steps = np.ceil(counts / counts.max() * (len(LEVELS) - 1)).astype(int)
    return "".join(LEVELS[step] for step in steps)


def listed(addresses: Sequence[str]) -> str:
    """Return addresses for a sentence.

    >>> listed(["a.tif", "b.tif", "c.tif"])
    'a.tif, b.tif and c.tif'
    """
    *first, last = addresses
    return f"{', '.join(first)} and {last}" if first else last
