"""Check a configuration with `model.output: affinities` across its sections.

A network that predicts affinities learns from instances, has no classes, and is decoded by the watershed. Keys that
choose a class, or a threshold of a class, are refused.
"""

from collections.abc import Mapping

from unet.config.model import ModelConfig
from unet.config.predict import PredictConfig
from unet.config.segment import AFFINITY_METHODS, BOUNDARY_METHODS, SegmentConfig
from unet.config.train import TrainConfig


def problem_of_affinities(
    model: ModelConfig,
    train: TrainConfig,
    predict: PredictConfig,
    segment: SegmentConfig,
    label_kinds: Mapping[str, str],
) -> str | None:
    """Return the first key that does not go with `model.output`, as a message that says what to do.

    Parameters
    ----------
    label_kinds : mapping
        `label_kind` of each volume that the training reads.
    """
    if model.output == "affinities":
        problem = _problem_of_labels(model, label_kinds) or _problem_of_descriptors(model, train, label_kinds)
        problem = problem or _problem_of_decoding(predict, segment)
        return problem or _problem_of_linkage(model, segment)
    given = train.affinities.model_dump(exclude_defaults=True)
    if given and model.checkpoint is None:
        return f"train.affinities is {given}, but has no effect with model.output: classes: remove it"
    return _problem_of_linkage(model, segment)


def _problem_of_labels(model: ModelConfig, label_kinds: Mapping[str, str]) -> str | None:
    """Return the first volume whose labels do not say which voxels belong to one object."""
    crosses = model.dimensions == 3 if model.offsets == "auto" else any(z for z, _, _ in model.offsets)
    for name, kind in label_kinds.items():
        if kind == "classes":
            return (
                f"model.output is affinities, which are learnt from instances, but volumes.{name}.label_kind is "
                "classes: give labels with one id per object (label_kind: instances), or set model.output: classes"
            )
        if kind == "interior" and crosses:
            return (
                f"volumes.{name}.label_kind is interior, whose objects are those of single sections, but model.offsets "
                "lead to other sections: give ids of objects in 3-D (label_kind: instances), or list offsets with z = 0"
            )
    return None


def _problem_of_descriptors(model: ModelConfig, train: TrainConfig, label_kinds: Mapping[str, str]) -> str | None:
    """Return a message if shape descriptors fit neither the network nor its labels."""
    if train.affinities.shape_descriptors is None:
        return None
    if model.architecture != "unet":
        return (
            "train.affinities.shape_descriptors needs model.architecture: unet, but it is "
            f"{model.architecture}: remove shape_descriptors, or change the architecture"
        )
    for name, kind in label_kinds.items():
        if kind == "interior" and model.dimensions == 3:
            return (
                f"train.affinities.shape_descriptors describes objects in 3-D, but volumes.{name}.label_kind is "
                "interior, whose objects are those of single sections: remove shape_descriptors, or take a 2-D network"
            )
    return None


def _problem_of_decoding(predict: PredictConfig, segment: SegmentConfig) -> str | None:
    """Return the first key of prediction or segmentation that needs classes."""
    if predict.test_time_augmentation == "rotations":
        return (
            "predict.test_time_augmentation is rotations, which interpolates, but affinities belong to whole voxels: "
            "set it to flips, symmetries or none"
        )
    if segment.method != "watershed":
        return (
            f"segment.method is {segment.method}, but affinities have no foreground whose connected voxels are "
            "objects: set segment.method: watershed"
        )
    if segment.foreground is not None:
        return f"segment.foreground is {segment.foreground}, but affinities have no classes: remove it"
    if segment.threshold == "auto":
        return (
            "segment.threshold is auto, which chooses the threshold of a class by V_rand, but affinities have no "
            "classes: give a number"
        )
    return None


def _problem_of_linkage(model: ModelConfig, segment: SegmentConfig) -> str | None:
    """Return a message if the agglomeration scores what the network does not predict."""
    if model.checkpoint is not None:
        return None  # the output is that of the model file: `merge` compares
    affinities = model.output == "affinities"
    instead = segment.fitting_methods(affinities)
    if instead is None:
        fitting = AFFINITY_METHODS if affinities else BOUNDARY_METHODS
        others = [one for one in segment.candidates.methods_for(affinities) if one not in fitting]
        if not others:
            return None
        return (
            f"segment.candidates.methods lists {others[0]}, which does not work with model.output: {model.output}; "
            f"take some of {', '.join(fitting)}"
        )
    return (
        f"segment.agglomerate.method is {segment.agglomerate.method}, which does not work with model.output: "
        f"{model.output}; take one of {instead}"
    )
