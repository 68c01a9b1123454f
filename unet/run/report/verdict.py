"""The verdict at the top of the report: what was segmented, how good it is beside what is usual, and what to do next.

A pure function of numbers. The limits are in `unet.run.report.usual_scores`, the rules in `unet.run.report.next_steps`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from unet.run.report.next_steps import Advice, RunNumbers, ScoredVolume, next_steps
from unet.run.report.usual_scores import LEVELS, USUAL, Kind

WHAT: Mapping[Kind, str] = {
    "sections": "cells of each section",
    "volume": "objects in 3-D",
    "separate": "separate objects",
}


class JudgedScore(NamedTuple):
    """A score beside what is usual: its name, value and level, and the usual range with its source."""

    name: str
    value: float
    level: str
    usual: str
    source: str


@dataclass(frozen=True)
class JudgedVolume:
    """The level of a volume's objects.

    Attributes
    ----------
    name : name of the volume
    learnt : whether the network learnt from it
    kind : kind of its objects, in words
    level : one of `LEVELS`, the worst of its scores
    scores : the scores that were judged
    """

    name: str
    learnt: bool
    kind: str
    level: str
    scores: Sequence[JudgedScore]

    @property
    def sentence(self) -> str:
        """Return the level in one sentence."""
        seen = "from which the network learnt" if self.learnt else "held out"
        return f"{self.name} ({seen}): the {self.kind} are {self.level}."


class Verdict(NamedTuple):
    """Say what was made, one sentence per volume; how good it is; and what to do next."""

    made: Sequence[str]
    judged: Sequence[JudgedVolume]
    steps: Sequence[Advice]


@dataclass(frozen=True)
class SegmentedVolume:
    """A volume that was segmented.

    Attributes
    ----------
    name : name of the volume
    shape : voxels along z, y, x
    voxel_size_nm : sides of a voxel along z, y, x in nm
    objects : objects that are stored
    is_generated : whether the volume is the sample that the workflow makes
    """

    name: str
    shape: Sequence[int]
    voxel_size_nm: Sequence[float]
    objects: int
    is_generated: bool = False


def verdict(volumes: Sequence[SegmentedVolume], how: str, run: RunNumbers) -> Verdict:
    """Return the verdict on a run.

    Parameters
    ----------
    volumes : what was segmented
    how : how objects were made, such as ``connected components of each section``
    run : all numbers that the rules look at
    """
    judged = [found for one in run.judged if (found := judged_volume(one)) is not None]
    return Verdict([made(one, how) for one in volumes], judged, next_steps(run))


def judged_volume(volume: ScoredVolume) -> JudgedVolume | None:
    """Return the level of a volume's objects, the worst of its scores; None where none of them was measured."""
    usual = [(one, one.value(volume.scores)) for one in USUAL[volume.kind]]
    known = [(one, value, one.level(value)) for one, value in usual if value is not None]
    if not known:
        return None
    scores = [JudgedScore(one.name, value, LEVELS[level], one.usual, one.source) for one, value, level in known]
    worst = LEVELS[max(level for _, _, level in known)]
    return JudgedVolume(volume.name, volume.learnt, WHAT[volume.kind], worst, scores)


def made(volume: SegmentedVolume, how: str) -> str:
    """Return what was made of a volume, in one sentence, and a second one on a generated volume.

    >>> made(SegmentedVolume("test", (6, 512, 512), (50, 4, 4), 860), "connected components of each section")
    'test: 860 objects, connected components of each section, in 6 × 512 × 512 voxels (0.3 × 2.05 × 2.05 µm).'
    """
    size = " × ".join(f"{n:,}" for n in volume.shape)
    sides = [n * side / 1000 for n, side in zip(volume.shape, volume.voxel_size_nm, strict=True)]
    micrometres = " × ".join(f"{side:.3g}" for side in sides)
    number = f"{volume.objects:,} object{'s' * (volume.objects != 1)}"
    generated = " The volume is generated; real tissue is harder." if volume.is_generated else ""
    return f"{volume.name}: {number}, {how}, in {size} voxels ({micrometres} µm).{generated}"


def how_made(method: str, agglomerate: str, sections_alone: bool, threshold: float | None) -> str:
    """Return how objects were made, in words.

    >>> how_made("components", "mean", True, 0.4)
    'connected components of each section above 0.4'
    >>> how_made("watershed", "average_linkage", False, None)
    'watershed fragments joined by average linkage in 3-D'
    """
    where = "of each section" if sections_alone else "in 3-D"
    if method == "components":
        above = "" if threshold is None else f" above {threshold:g}"
        return f"connected components {where}{above}"
    if agglomerate == "none":
        return f"watershed fragments {where}"
    return f"watershed fragments joined by {JOINED[agglomerate]} {where}"


JOINED: Mapping[str, Any] = {
    "mean": "the mean boundary probability",
    "quantile": "a quantile of the boundary probability",
    "multicut": "multicut",
    "average_linkage": "average linkage",
    "mutex_watershed": "a mutex watershed",
}
"""Ways of joining fragments, in words."""
