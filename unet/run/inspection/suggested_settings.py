"""Choose the settings of a configuration for given files, labels and hardware, each with the reason.

1. `volume_settings`    the files; the annotated sections divided into `train`, `validation` and `test`.
2. `training_settings`  network and training, from the hardware.
3. `segment_settings`   method and connectivity, from voxel size and labels.

Keys that keep their default are left out.
"""

from dataclasses import dataclass, field
from math import ceil, prod
from typing import Any

from unet.config.label_kinds import IGNORE
from unet.config.source import SourceConfig
from unet.geometry.box import Box
from unet.run.inspection.annotated_sections import Run, Split
from unet.run.inspection.hardware import Hardware, NetworkChoice
from unet.run.inspection.label_guess import LabelGuess

ISOTROPIC = 2.0
"""Largest ratio of z to x of voxels that are nearly cubes."""
ANNOTATED_WHOLE = 0.9
"""Share of the sections from which the annotated sections are the whole volume."""
CONTEXT_PX = 128
"""Voxels kept around an annotated part along y and x, so that the network sees what lies around it."""
DEEP_BLOCK = (64, 512, 512)
"""Block of a watershed in 3-D: it reads less around itself than a flat one (`snakemake plan` says how much)."""


@dataclass(frozen=True)
class VoxelSize:
    """A voxel size `(z, y, x)` in nm, and where it is from; `write` says whether the files do not state it."""

    nm: tuple[float, float, float]
    why: str
    write: bool
    overrule: bool = False

    @property
    def ratio(self) -> float:
        """Return z over x."""
        return self.nm[0] / self.nm[2]

    @property
    def is_isotropic(self) -> bool:
        """Return whether voxels are nearly cubes."""
        return self.ratio <= ISOTROPIC


@dataclass(frozen=True)
class Inputs:
    """The files of a configuration, and what was found in them.

    Attributes
    ----------
    raw : SourceConfig
        Intensities; those that the labels belong to, if there are labels.
    labels, mask : SourceConfig, or None
        Annotation and mask.
    shape : tuple of int
        ``(z, y, x)`` of raw.
    covered : Box or None
        The part of raw that the labels cover; None if they cover all of it.
    further : dict
        Further volumes to segment: source and voxel size by name.
    guess, split : LabelGuess and Split, or None
        What the labels are, and how their sections are divided; None without labels.
    model : str or None
        A trained model.
    """

    raw: SourceConfig
    shape: tuple[int, ...]
    voxel_size: VoxelSize
    labels: SourceConfig | None = None
    mask: SourceConfig | None = None
    guess: LabelGuess | None = None
    split: Split | None = None
    covered: Box | None = None
    further: dict[str, tuple[SourceConfig, VoxelSize]] = field(default_factory=dict)
    model: str | None = None

    @property
    def whole_is_annotated(self) -> bool:
        """Return whether nothing but annotated sections is left to segment."""
        if self.split is None:
            return False
        annotated = sum(stop - first for first, stop in self.split.volumes.values())
        share = 1.0 if self.covered is None else prod(self.covered.shape[1:]) / prod(self.shape[1:])
        return share * annotated >= ANNOTATED_WHOLE * self.shape[0]

    @property
    def unlabelled(self) -> list[str]:
        """Return the names of the volumes that are only segmented."""
        return [*([] if self.whole_is_annotated else ["all"]), *self.further]


@dataclass(frozen=True)
class Effort:
    """Amount of computing: the network, its steps, and whether the unlabelled volumes are segmented as well."""

    network: NetworkChoice
    steps: int
    segment_unlabelled: bool = True


@dataclass
class Suggestion:
    """Settings, and the reason of each by its full key."""

    settings: dict[str, Any] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    def add(self, key: str, value: Any, why: str = "") -> None:
        """Set a key such as `train.steps`, with its reason."""
        *above, last = key.split(".")
        inner = self.settings
        for name in above:
            inner = inner.setdefault(name, {})
        inner[last] = value
        if why:
            self.reasons[key] = why


def suggest(inputs: Inputs, hardware: Hardware, effort: Effort, results: str) -> Suggestion:
    """Return a whole configuration for the files."""
    found = Suggestion()
    found.add("results", results, "every file that a run writes; one folder per configuration")
    volume_settings(found, inputs)
    if inputs.voxel_size.is_isotropic and inputs.shape[0] >= DEEP_BLOCK[0]:
        found.add("storage.block", list(DEEP_BLOCK), "deep blocks, since objects are found in 3-D")
    if inputs.model is not None:
        found.add("model.checkpoint", inputs.model, "a trained model is used, and none is trained")
    else:
        training_settings(found, inputs, hardware, effort)
    prediction_settings(found, inputs, effort)
    segment_settings(found, inputs)
    if inputs.split is not None:
        scored = [*inputs.split.names("train"), *(_held_back(inputs.split))]
        honest = ", ".join(_held_back(inputs.split))
        why = f"only {honest} is an honest score" if honest else "not honest: the network has seen these labels"
        found.add("evaluate.volumes", scored, why)
        found.add("evaluate.threshold_volumes", inputs.split.names("train"), "never those whose score is to be honest")
    return found


def _held_back(split: Split) -> list[str]:
    """Return the volumes whose score counts."""
    return split.names("test") or split.names("validation")


def volume_settings(found: Suggestion, inputs: Inputs) -> None:
    """Add the volumes."""
    size, guess = inputs.voxel_size, inputs.guess
    labelled = dict(inputs.split.volumes) if inputs.split else {}
    if labelled:
        found.reasons["volumes"] = inputs.split.why if inputs.split else ""
    for number, (name, run) in enumerate(labelled.items()):
        first = number == 0
        _raw_of(found, name, inputs.raw, size, first)
        found.add(f"volumes.{name}.labels", short(inputs.labels))
        if guess is not None:
            _meaning_of_labels(found, name, guess, first)
        _part_of_raw(found, name, inputs, run)
        _mask_and_voxel_size(found, name, inputs.mask, size, first)
    if not inputs.whole_is_annotated:
        _raw_of(found, "all", inputs.raw, size, not labelled)
        found.reasons["volumes.all"] = "all sections, to be segmented"
        _mask_and_voxel_size(found, "all", inputs.mask, size, not labelled)
    for name, (given, own) in inputs.further.items():
        _raw_of(found, name, given, own, True)
        _mask_and_voxel_size(found, name, None, own, True)


def _part_of_raw(found: Suggestion, name: str, inputs: Inputs, run: Run) -> None:
    """Add the sections of a volume, and a crop where the labels cover less than half of a section."""
    around = inputs.covered and inputs.covered.grown((0, CONTEXT_PX, CONTEXT_PX)).clipped(inputs.shape)
    if around and 2 * prod(around.shape[1:]) < prod(inputs.shape[1:]):
        ranges = [list(pair) for pair in zip(around.start[1:], around.stop[1:], strict=True)]
        why = f"what the labels cover, and {CONTEXT_PX} px around it"
        found.add(f"volumes.{name}.crop", [list(run), *ranges], why)
    elif run != (0, inputs.shape[0]):
        found.add(f"volumes.{name}.sections", list(run))


def _raw_of(found: Suggestion, name: str, raw: SourceConfig, size: VoxelSize, explain: bool) -> None:
    why = f"voxels of {' x '.join(f'{n:g}' for n in size.nm)} nm, {size.why}"
    found.add(f"volumes.{name}.raw", short(raw), why if explain and not size.write else "")


def _mask_and_voxel_size(
    found: Suggestion, name: str, mask: SourceConfig | None, size: VoxelSize, explain: bool
) -> None:
    if mask is not None:
        found.add(f"volumes.{name}.mask", short(mask))
    if size.write:
        found.add(f"volumes.{name}.voxel_size_nm", [_number(n) for n in size.nm], size.why if explain else "")
        if size.overrule:
            found.add(f"volumes.{name}.voxel_size_from", "configuration", "the file says another one" * explain)


def _meaning_of_labels(found: Suggestion, name: str, guess: LabelGuess, explain: bool) -> None:
    found.add(f"volumes.{name}.label_kind", guess.kind, guess.why if explain else "")
    ignored = list(guess.not_annotated) if len(guess.not_annotated) > 1 else next(iter(guess.not_annotated), None)
    if guess.class_values:
        why = " ".join(guess.warnings) or "the grey value of each class; the first is background"
        values = dict(guess.class_values) | ({} if ignored is None else {IGNORE: ignored})
        found.add(f"volumes.{name}.class_values", values, why if explain else "")
    elif ignored is not None:
        found.add(f"volumes.{name}.ignore_id", ignored, "not annotated" * explain)


def short(given: SourceConfig | None) -> Any:
    """Return a source as it is written: its path, or a mapping where more is set."""
    if given is None:
        return None
    values = given.model_dump(mode="json", exclude_defaults=True)
    return values["path"] if set(values) == {"path"} else values


def _number(value: float) -> float | int:
    return int(value) if value == int(value) else value


def training_settings(found: Suggestion, inputs: Inputs, hardware: Hardware, effort: Effort) -> None:
    """Add network and training."""
    network, split = effort.network, inputs.split
    found.add("model", dict(network.model), f"for {hardware}")
    if split is None:
        return
    found.add("train.volumes", split.names("train"))
    if split.validation:
        found.add("train.validation", split.names("validation"), "chooses the best weights")
    found.add("train.steps", effort.steps, f"as many as end in the estimated time, {network.most_steps} at most")
    tile = network.fitting_tile(min(inputs.shape[1:]))
    found.add("train.tile", tile, "side of a patch in px: what the network takes, no larger than a section")
    found.add("train.batch", network.batch)
    found.add("train.optimizer", "adamw", "learns in fewer steps than the paper's sgd")
    found.add("train.learning_rate", network.learning_rate)
    if split.validation and effort.steps < 1600:
        found.add("train.validation_steps", max(10, ceil(effort.steps / 8)), "eight times in the training")
    if hardware.gpu is None:
        augment = {"rotation": "right", "elastic_probability": 0}
        found.add("train.augment", augment, "elastic deformation pays in long trainings")


def prediction_settings(found: Suggestion, inputs: Inputs, effort: Effort) -> None:
    """Add the volumes to predict and segment."""
    split = inputs.split
    annotated: list[str] = []
    if split is not None:
        annotated = list(split.volumes) if inputs.whole_is_annotated else [*split.names("train"), *_held_back(split)]
    if effort.segment_unlabelled or not annotated:
        found.add("predict.volumes", [*annotated, *inputs.unlabelled])
    else:
        later = ", ".join(inputs.unlabelled)
        found.add(
            "predict.volumes", annotated, f"add {later} once the scores are good: snakemake plan says what it costs"
        )


def segment_settings(found: Suggestion, inputs: Inputs) -> None:
    """Add the way from probabilities to objects."""
    guess, size = inputs.guess, inputs.voxel_size
    of_sections = guess is not None and guess.kind != "instances"
    can_choose = guess is not None and not (of_sections and size.is_isotropic)
    if guess is not None and guess.foreground < 0.5 and guess.kind != "classes":
        _components(found, guess, size)
        return
    why = "cells fill the space: fragments, then agglomeration"
    if guess is not None:
        why = f"cells fill {guess.foreground:.0%} of the annotated sections: fragments, then agglomeration"
    found.add("segment.method", "watershed", why)
    found.add("segment.threshold", 0.4 if size.is_isotropic else 0.3, "faint membranes are left to the agglomeration")
    _connectivity(found, size)
    if not size.is_isotropic and of_sections:
        why = "the labels are of each section alone, and so are the objects; 1 links sections"
        found.add("segment.max_section_gap", None, why)
    if can_choose:
        found.add("segment.agglomerate.threshold", "auto", "the least VOI on evaluate.threshold_volumes")


def _components(found: Suggestion, guess: LabelGuess, size: VoxelSize) -> None:
    why = f"objects fill {guess.foreground:.0%} of the annotated sections, with background between them"
    found.add("segment.method", "components", why)
    found.add("segment.threshold", "auto", "the best V_rand on evaluate.threshold_volumes")
    _connectivity(found, size)
    if guess.kind == "instances":
        found.add("weights.w0", 10, "a large border weight keeps touching objects apart")


def _connectivity(found: Suggestion, size: VoxelSize) -> None:
    z, _, x = size.nm
    if size.is_isotropic:
        found.add("segment.connectivity", "volume", f"voxels are nearly cubes, z {z:g} nm and x {x:g} nm")
    else:
        found.add("segment.connectivity", "section", f"sections are thick, z {z:g} nm and x {x:g} nm")
