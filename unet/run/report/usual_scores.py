"""Usual scores: limits between four levels, for three kinds of objects, and where the limits come from.

Scores of different tissues, resolutions and crops cannot be compared closely. A level says where a score lies beside
published ones, and no more. `docs/explanation/report.md` has the same limits with the figures behind them.
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

Kind = Literal["sections", "volume", "separate"]
"""`sections`: cells of each section alone. `volume`: neurons in 3-D. `separate`: objects that fill less than half."""

LEVELS = ("as good as the best published", "usual", "below what is usual", "poor")
"""Levels of a score, best first."""
SEPARATE_BELOW = 0.5
"""Share of the annotated voxels below which the foreground is taken for separate objects, such as nuclei."""


class UsualScore(NamedTuple):
    """A score, the limits between its levels, and what they come from.

    Attributes
    ----------
    keys : keys of `evaluation.json` whose values are added
    name : name for people
    limits : limits of the first three of `LEVELS`, best first; a score on a limit has the better level
    source : published figures between which the limits lie
    """

    keys: tuple[str, ...]
    name: str
    limits: tuple[float, float, float]
    source: str

    @property
    def higher_is_better(self) -> bool:
        """Return whether a higher score is better."""
        return self.limits[0] > self.limits[-1]

    def value(self, scores: Mapping[str, Any]) -> float | None:
        """Return the score; None where it was not measured."""
        found = [scores.get(key) for key in self.keys]
        return None if None in found else float(sum(value for value in found if value is not None))

    def level(self, value: float) -> int:
        """Return the index of a score's level in `LEVELS`.

        >>> [USUAL["volume"][0].level(error) for error in (0.02, 0.06, 0.1, 0.2, 0.9)]
        [0, 0, 1, 2, 3]
        """
        sign = 1 if self.higher_is_better else -1
        return sum(sign * value < sign * limit for limit in self.limits)

    @property
    def usual(self) -> str:
        """Return the range of the level `usual`, for people.

        >>> USUAL["volume"][0].usual
        '0.06 to 0.12'
        """
        low, high = sorted(self.limits[:2])
        return f"{low:g} to {high:g}"


USUAL: Mapping[Kind, tuple[UsualScore, ...]] = {
    "sections": (
        UsualScore(
            ("segmentation_v_rand",),
            "V_rand",
            (0.97, 0.95, 0.9),
            "ISBI 2012: the U-Net paper 0.973, plain U-Nets 0.951 to 0.964, leaders 0.984 to 0.988",
        ),
        UsualScore(
            ("segmentation_v_info",),
            "V_info",
            (0.985, 0.975, 0.9),
            "ISBI 2012: the U-Net paper 0.987, plain U-Nets 0.981 to 0.982, leaders 0.990 to 0.992",
        ),
    ),
    "volume": (
        UsualScore(
            ("adapted_rand_error",),
            "adapted Rand error",
            (0.06, 0.12, 0.25),
            "SNEMI3D: a human 0.060, the first network above that 0.025; fib25: FFN 0.037, an oversegmentation 0.211",
        ),
        UsualScore(
            ("voi_split", "voi_merge"),
            "VOI in bits",
            (0.6, 1.3, 1.9),
            "fib25: FFN 0.51 where it labels and 1.05 everywhere, an oversegmentation 1.83",
        ),
    ),
    "separate": (
        UsualScore(
            ("average_precision_50",),
            "average precision at IoU 0.5",
            (0.85, 0.7, 0.5),
            "touching nuclei, measured with this workflow: 0.81 to 0.93 with the border weight, 0.69 to 0.81 without",
        ),
    ),
}
"""Scores by which each kind of objects is judged."""


def kind_of_objects(sections_alone: bool, foreground_share: float | None) -> Kind:
    """Return the kind of objects that a volume has.

    Parameters
    ----------
    sections_alone : whether every object lies in one section
    foreground_share : share of the annotated voxels that belong to objects, 0 to 1; None where it is not known

    >>> kind_of_objects(True, 0.8), kind_of_objects(False, None), kind_of_objects(False, 0.1)
    ('sections', 'volume', 'separate')
    """
    if foreground_share is not None and foreground_share < SEPARATE_BELOW:
        return "separate"
    return "sections" if sections_alone else "volume"
