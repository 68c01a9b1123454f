"""Find the annotated sections of labels, and divide them into sections to train on, to validate on and to test on.

```
24 annotated sections     0 ............. 17 | 18 19 | 20 .. 23
                          train                validation  test
```

Validation lies between the two, so that no section of `test` is a neighbour of a section that was trained on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from unet.geometry.box import Box
from unet.run.inspection.samples import middle_window, spread
from unet.volumes.readers.source import Source

WHOLE_VOXELS = 256 * 2**20
"""Largest number of voxels of labels of which every section is read whole."""
SAMPLED_SECTIONS = 64
"""Sections of larger labels whose middle is read."""
SAMPLE_PX = 1024
"""Side in px of that middle."""
MIN_FOR_VALIDATION, MIN_FOR_TEST = 4, 12
"""Annotated sections from which some are held back."""
MAX_RUNS = 12
"""Largest number of runs of annotated sections that become volumes of their own."""

Run = tuple[int, int]
"""Half-open range of sections."""


@dataclass(frozen=True)
class AnnotatedSections:
    """The annotated sections of labels.

    Attributes
    ----------
    runs : tuple of Run
        Ranges of sections that hold two values or more.
    depth : int
        Number of all sections.
    looked_at : int
        Number of sections that were read.
    """

    runs: tuple[Run, ...]
    depth: int
    looked_at: int

    @property
    def count(self) -> int:
        """Return the number of annotated sections."""
        return sum(stop - first for first, stop in self.runs)

    def __str__(self) -> str:
        listed = ", ".join(f"{a} to {b - 1}" if b - a > 1 else str(a) for a, b in self.runs[:6])
        more = f" and {len(self.runs) - 6} more ranges" if len(self.runs) > 6 else ""
        seen = "" if self.looked_at == self.depth else f"; {self.looked_at} sections were looked at"
        return f"{self.count} of {self.depth} sections ({listed or 'none'}{more}{seen})"


def find_annotated_sections(labels: Source) -> AnnotatedSections:
    """Return the sections of labels that hold two values or more. Memory is that of one section of 16k x 16k at most.

    A section of one value says nothing: a section that nobody drew on is 0 as a whole.
    """
    depth, area = labels.shape[0], labels.shape[1] * labels.shape[2]
    if depth * area <= WHOLE_VOXELS:
        looked_at = tuple(range(depth))
        drawn = [_is_drawn(labels, Box((z, 0, 0), (z + 1, *labels.shape[1:]))) for z in looked_at]
        return AnnotatedSections(runs_of([z for z in looked_at if drawn[z]]), depth, depth)
    looked_at = spread(depth, SAMPLED_SECTIONS)
    found = [z for z in looked_at if _is_drawn(labels, middle_window(labels, z, SAMPLE_PX))]
    if not found:
        return AnnotatedSections((), depth, len(looked_at))
    before = max((z for z in looked_at if z < found[0]), default=-1)
    behind = min((z for z in looked_at if z > found[-1]), default=depth)
    run = (_edge(labels, before, found[0]), _edge(labels, behind, found[-1]) + 1)
    return AnnotatedSections((run,), depth, len(looked_at))


def _edge(labels: Source, empty: int, drawn: int) -> int:
    """Return the drawn section next to the empty ones, between an empty section and a drawn one, by bisection."""
    while abs(drawn - empty) > 1:
        middle = (drawn + empty) // 2
        if _is_drawn(labels, middle_window(labels, middle, SAMPLE_PX)):
            drawn = middle
        else:
            empty = middle
    return drawn


def _is_drawn(labels: Source, box: Box) -> bool:
    values = labels.read(box).reshape(labels.channels, -1)
    covered = labels.covers(box)
    if covered is not None:
        values = values[:, covered.ravel()]
    return bool((values != values[:, :1]).any()) if values.size else False


def runs_of(numbers: Sequence[int]) -> tuple[Run, ...]:
    """Return numbers in ascending order as half-open ranges.

    >>> runs_of([0, 1, 2, 7])
    ((0, 3), (7, 8))
    """
    found: list[Run] = []
    for number in numbers:
        if found and found[-1][1] == number:
            found[-1] = (found[-1][0], number + 1)
        else:
            found.append((number, number + 1))
    return tuple(found)


@dataclass(frozen=True)
class Split:
    """Ranges of sections to train on, to validate on and to test on, and how they were chosen."""

    train: tuple[Run, ...]
    validation: tuple[Run, ...]
    test: tuple[Run, ...]
    why: str

    @property
    def volumes(self) -> dict[str, Run]:
        """Return the range of each volume by its name; several ranges of one purpose have numbers."""
        found: dict[str, Run] = {}
        for name in ("train", "validation", "test"):
            runs: tuple[Run, ...] = getattr(self, name)
            found |= {f"{name}_{i + 1}" if len(runs) > 1 else name: run for i, run in enumerate(runs)}
        return found

    def names(self, purpose: str) -> list[str]:
        """Return the names of the volumes of a purpose."""
        return [name for name in self.volumes if name.split("_")[0] == purpose]


def split_sections(annotated: AnnotatedSections) -> Split:
    """Return which annotated sections to train on, to validate on and to test on.

    >>> split = split_sections(AnnotatedSections(((0, 24),), 24, 24))
    >>> split.volumes
    {'train': (0, 18), 'validation': (18, 20), 'test': (20, 24)}
    >>> split_sections(AnnotatedSections(((3, 6),), 24, 24)).volumes
    {'train': (3, 6)}
    """
    runs = annotated.runs[:MAX_RUNS]
    numbers = np.concatenate([np.arange(*run) for run in runs])
    count = len(numbers)
    test = max(2, count // 6) if count >= MIN_FOR_TEST else 0
    validation = max(1, count // 12) if count >= MIN_FOR_VALIDATION else 0
    ends = [0, count - validation - test, count - test, count]
    parts = [runs_of(numbers[a:b].tolist()) for a, b in pairwise(ends)]
    if test:
        why = f"the last sixth of {count} annotated sections tests, a twelfth before it validates, the rest trains"
    elif validation:
        why = f"{count} annotated sections: {validation} validates, none tests (from {MIN_FOR_TEST} on some do)"
    else:
        why = f"{count} annotated section{'s' * (count != 1)}: all train, so that no score is honest"
    if len(annotated.runs) > MAX_RUNS:
        why += f"; of {len(annotated.runs)} ranges of sections the first {MAX_RUNS} are used"
    return Split(parts[0], parts[1], parts[2], why)
