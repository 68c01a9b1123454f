"""Check a configuration with `model.output: affinities` across its sections.

A network that predicts affinities learns from instances, has no classes, and is decoded by the watershed. Keys that
choose a class, or a threshold of a class, are refused.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unet.config.root import Config


def problem_of_affinities(config: "Config") -> str | None:
    """Return the first key that does not go with `model.output`, as a message that says what to do."""
    if config.model.output == "classes":
        given = config.train.affinities.model_dump(exclude_defaults=True)
        if given and config.model.checkpoint is None:
            return f"train.affinities is {given}, but has no effect with model.output: classes: remove it"
        return None
    return _problem_of_labels(config) or _problem_of_segmentation(config)


def _problem_of_labels(config: "Config") -> str | None:
    """Return the first volume whose labels do not tell which voxels belong to one object."""
    crosses = (
        config.model.dimensions == 3 if config.model.offsets == "auto" else any(z for z, _, _ in config.model.offsets)
    )
    for name in config.learning_volumes:
        kind = config.volumes[name].label_kind
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


def _problem_of_segmentation(config: "Config") -> str | None:
    """Return the first key of prediction or segmentation that needs classes."""
    segment, augmentation = config.segment, config.predict.test_time_augmentation
    if augmentation == "rotations":
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
