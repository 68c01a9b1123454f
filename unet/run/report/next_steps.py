"""Choose what to do next by rules: each looks at the numbers of a run, and has nothing to say or one piece of advice.

The rules stand in the order of `RULES`, the most urgent first. `docs/explanation/report.md` lists them with their
limits, and a test compares the two.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from unet.run.report.usual_scores import Kind

FEW_OBJECTS = 30
"""True objects of the scored volumes, all together, below which one object may decide a score."""
DOMINATES = 1.5
"""How many times the one kind of error exceeds the other for it to dominate."""
MIN_BITS = 0.05
"""VOI in bits, off the borders, below which neither kind of error matters."""
GAP = {"sections": 0.03, "volume": 0.2, "separate": 0.1}
"""Difference between training and held-out volumes that says that more has to be annotated: of V_rand, of VOI in bits
and of the average precision."""
BETTER_BY_THRESHOLDING = 0.02
"""V_rand by which thresholding is better than the objects made of it for the membranes between these to matter."""
FLAT = {"V_rand": 0.01, "VOI": 0.05}
"""Difference of a score within which a neighbouring threshold is as good as the chosen one; VOI in bits."""
LARGEST_SHARE = 0.5
"""Share of all object voxels above which the largest object is suspected to be a merger."""
SMALL_VOXELS, SMALL_SHARE = 50, 0.2
"""An object of fewer voxels is small; above this share of the objects, small ones are worth removing."""
STILL_LEARNING = 0.02
"""Relative fall of the validation loss over the last quarter of the training that says that it ended too early."""


@dataclass(frozen=True)
class ScoredVolume:
    """A volume with labels, and its scores.

    Attributes
    ----------
    name : name of the volume
    learnt : whether the network learnt from it
    kind : kind of its objects
    scores : its scores by the keys of `evaluation.json`
    """

    name: str
    learnt: bool
    kind: Kind
    scores: Mapping[str, Any]


@dataclass(frozen=True)
class Sweep:
    """Scores over a threshold that was chosen.

    Attributes
    ----------
    key : key of the threshold in the configuration
    score : ``V_rand``, which is best where it is highest, or ``VOI``, which is best where it is lowest
    points : threshold and score, thresholds increasing
    chosen : the threshold that was taken
    """

    key: str
    score: str
    points: Sequence[tuple[float, float]]
    chosen: float


@dataclass(frozen=True)
class RunNumbers:
    """All numbers of a run that the rules look at.

    Attributes
    ----------
    objects : volume -> objects that are stored
    largest_share : volume -> share of all object voxels that the largest object has, 0 to 1
    small_share : volume -> share of the objects that have fewer than `SMALL_VOXELS` voxels, 0 to 1
    scored : volumes that have scores
    method : ``components`` or ``watershed``
    affinities : whether objects are joined by affinities, where a larger threshold joins less
    min_size : voxels below which objects are dropped
    border_weight : `weights.w0`; None where no network was trained with it
    sweeps : thresholds that were chosen
    validation_losses : loss at each validation of the training, in order
    """

    objects: Mapping[str, int]
    largest_share: Mapping[str, float] = field(default_factory=dict)
    small_share: Mapping[str, float] = field(default_factory=dict)
    scored: Sequence[ScoredVolume] = ()
    method: str = "components"
    affinities: bool = False
    min_size: int = 0
    border_weight: float | None = None
    sweeps: Sequence[Sweep] = ()
    validation_losses: Sequence[float] = ()

    @property
    def judged(self) -> list[ScoredVolume]:
        """Return the held-out volumes, or all scored ones where none is held out."""
        return [one for one in self.scored if not one.learnt] or list(self.scored)


class Advice(NamedTuple):
    """Next step: the name of the rule that says so, what was seen, and what to do."""

    rule: str
    seen: str
    do: str


def next_steps(run: RunNumbers) -> list[Advice]:
    """Return what to do next, the most urgent first; empty where no rule has anything to say."""
    found = [(rule.__name__, rule(run)) for rule in RULES]
    return [Advice(name, *said) for name, said in found if said is not None]


Said = tuple[str, str] | None


def no_objects(run: RunNumbers) -> Said:
    """Advise where a volume has no object, or a single one."""
    without = [name for name, number in run.objects.items() if number < 2]
    if not without:
        return None
    return (
        f"{_names(without)}: no object, or a single one.",
        "Look at the probability first. Where cells are bright and borders dark, change segment.threshold or "
        "segment.min_size; where they are not, the network has not learnt: look at the labels and the learning curve.",
    )


def not_scored(run: RunNumbers) -> Said:
    """Advise where no volume is scored."""
    if run.scored:
        return None
    return (
        "No volume is scored, so no number says how good the objects are.",
        "Judge by the eye: scroll through the sections, and look at the largest objects and the suspected merge "
        "errors. For a number, annotate about three sections far from the training sections, and name them in "
        "evaluate.volumes.",
    )


def nothing_held_out(run: RunNumbers) -> Said:
    """Advise where the network learnt from every scored volume."""
    if not run.scored or any(not one.learnt for one in run.scored):
        return None
    return (
        "The network learnt from every volume that is scored, so the scores are better than on new tissue.",
        "Annotate a few sections elsewhere, and name them in evaluate.volumes but not in train.volumes.",
    )


def few_objects(run: RunNumbers) -> Said:
    """Advise where fewer than `FEW_OBJECTS` true objects decide the scores."""
    number = sum(one.scores.get("true_objects") or 0 for one in run.judged)
    if not run.judged or number >= FEW_OBJECTS:
        return None
    return (
        f"The scores rest on {number} true object{'s' * (number != 1)}, so a single one may decide them.",
        "Do not compare settings by small differences; annotate a larger piece to score on.",
    )


def far_below_training(run: RunNumbers) -> Said:
    """Advise where the held-out volumes score worse than the training volumes by more than `GAP`."""
    learnt, new = ([one for one in run.scored if one.learnt is is_learnt] for is_learnt in (True, False))
    gaps = {
        a.name: _loss(a) - _loss(b)
        for a in new
        for b in learnt
        if a.kind == b.kind and _has_loss(a) and _has_loss(b) and _loss(a) - _loss(b) > GAP[a.kind]
    }
    if not gaps:
        return None
    return (
        f"{_names(list(gaps))}: far below the training volumes.",
        "The network has not seen enough of the tissue. Annotate sections where it fails, add them to train.volumes, "
        "and vary intensities more (train.augment).",
    )


def membranes_left_out(run: RunNumbers) -> Said:
    """Advise where components score `BETTER_BY_THRESHOLDING` below thresholding, which thins membranes to lines."""
    worse = [
        one.name
        for one in run.judged
        if run.method == "components"
        and one.kind == "sections"
        and (one.scores.get("v_rand") or 0) - (one.scores.get("segmentation_v_rand") or 1) > BETTER_BY_THRESHOLDING
    ]
    if not worse:
        return None
    return (
        f"{_names(worse)}: the probability is better than the objects made of it, which leave the membranes out.",
        "Set segment.method to watershed: its objects meet in the middle of the membrane, and a gap of one voxel does "
        "not merge two cells.",
    )


def merges_dominate(run: RunNumbers) -> Said:
    """Advise where VOI merge exceeds VOI split, both off the borders, `DOMINATES` times."""
    names = [one.name for one in run.judged if _dominates(one, "cremi_voi_merge", "cremi_voi_split")]
    if not names:
        return None
    if run.method == "components":
        more = "" if run.border_weight is None else f", or train with a larger weights.w0 than {run.border_weight:g}"
        do = f"Raise segment.threshold, or set segment.method to watershed{more}."
    else:
        do = f"{'Raise' if run.affinities else 'Lower'} segment.agglomerate.threshold, so that less is joined."
    return f"{_names(names)}: merge errors outweigh split errors.", do


def splits_dominate(run: RunNumbers) -> Said:
    """Advise where VOI split exceeds VOI merge, both off the borders, `DOMINATES` times."""
    names = [one.name for one in run.judged if _dominates(one, "cremi_voi_split", "cremi_voi_merge")]
    if not names:
        return None
    if run.method == "components":
        do = "Lower segment.threshold, or set segment.min_size to drop very small objects."
    else:
        how = "Lower" if run.affinities else "Raise"
        do = f"{how} segment.agglomerate.threshold, so that more is joined; segment.agglomerate.join_fragments_below "
        do += "joins very small objects."
    return f"{_names(names)}: split errors outweigh merge errors.", do


def largest_holds_most(run: RunNumbers) -> Said:
    """Advise where the largest of several objects has more than `LARGEST_SHARE` of a volume's object voxels."""
    names = [name for name, share in run.largest_share.items() if share > LARGEST_SHARE and run.objects[name] > 1]
    if not names:
        return None
    shares = ", ".join(f"{100 * run.largest_share[name]:.0f} % in {name}" for name in names)
    return (
        f"The largest object has most of the object voxels: {shares}.",
        "It may be many cells that leak into each other: look at it, and join less.",
    )


def many_small(run: RunNumbers) -> Said:
    """Advise where more than `SMALL_SHARE` of the objects have fewer than `SMALL_VOXELS` voxels."""
    names = [name for name, share in run.small_share.items() if share > SMALL_SHARE]
    if not names:
        return None
    shares = ", ".join(f"{100 * run.small_share[name]:.0f} % in {name}" for name in names)
    return (
        f"Many objects have fewer than {SMALL_VOXELS} voxels: {shares}.",
        f"If they are noise, set segment.min_size (now {run.min_size}) above their size.",
    )


def optimum_not_flat(run: RunNumbers) -> Said:
    """Advise where a threshold beside the chosen one is worse by more than `FLAT`."""
    steep = [sweep for sweep in run.sweeps if not _ends(sweep) and not _is_flat(sweep)]
    if not steep:
        return None
    told = ", ".join(f"{sweep.key} {sweep.chosen:g}" for sweep in steep)
    return (
        f"The next thresholds are clearly worse than the chosen one: {told}.",
        "One join of two large objects may decide, by luck. Choose it on more annotated sections "
        "(evaluate.threshold_volumes).",
    )


def optimum_at_the_end(run: RunNumbers) -> Said:
    """Advise where the chosen threshold is the lowest or the highest that was tried."""
    ends = [sweep for sweep in run.sweeps if _ends(sweep)]
    if not ends:
        return None
    told = ", ".join(f"{sweep.key} {sweep.chosen:g}" for sweep in ends)
    return (
        f"The chosen threshold is the last one that was tried: {told}.",
        "Something before it is wrong: look at the probability, or retrain with another weights.w0.",
    )


def still_learning(run: RunNumbers) -> Said:
    """Advise where the validation loss fell by more than `STILL_LEARNING` over the last quarter of the validations."""
    losses = run.validation_losses
    if len(losses) < 4:
        return None
    before = min(losses[: -(len(losses) // 4)])
    if min(losses) >= (1 - STILL_LEARNING) * before:
        return None
    return (
        f"The validation loss still fell at the end of the training, from {before:.3g} to {min(losses):.3g}.",
        "Train longer: raise train.steps.",
    )


RULES: tuple[Callable[[RunNumbers], Said], ...] = (
    no_objects,
    not_scored,
    nothing_held_out,
    few_objects,
    far_below_training,
    membranes_left_out,
    merges_dominate,
    splits_dominate,
    largest_holds_most,
    many_small,
    optimum_not_flat,
    optimum_at_the_end,
    still_learning,
)
"""All rules, in the order of their advice."""


def _names(names: Sequence[str]) -> str:
    return ", ".join(names)


LOSS_KEYS: Mapping[Kind, tuple[int, tuple[str, ...]]] = {
    "sections": (-1, ("segmentation_v_rand",)),
    "volume": (1, ("voi_split", "voi_merge")),
    "separate": (-1, ("average_precision_50",)),
}
"""Sign and keys of the score by which volumes of a kind are compared; with its sign a higher one is worse."""


def _has_loss(volume: ScoredVolume) -> bool:
    return all(volume.scores.get(key) is not None for key in LOSS_KEYS[volume.kind][1])


def _loss(volume: ScoredVolume) -> float:
    sign, keys = LOSS_KEYS[volume.kind]
    return sign * sum(float(volume.scores[key]) for key in keys)


def _dominates(volume: ScoredVolume, one: str, other: str) -> bool:
    more, less = volume.scores.get(one), volume.scores.get(other)
    return more is not None and less is not None and more >= MIN_BITS and more > DOMINATES * less


def _place(sweep: Sweep) -> int:
    return min(range(len(sweep.points)), key=lambda i: abs(sweep.points[i][0] - sweep.chosen))


def _ends(sweep: Sweep) -> bool:
    return len(sweep.points) > 2 and _place(sweep) in (0, len(sweep.points) - 1)


def _is_flat(sweep: Sweep) -> bool:
    place, sign = _place(sweep), 1 if sweep.score == "VOI" else -1
    own, beside = sweep.points[place][1], sweep.points[max(0, place - 1) : place + 2]
    return all(round(sign * (score - own), 9) <= FLAT[sweep.score] for _, score in beside)
