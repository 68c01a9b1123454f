"""Find keys that are set and that nothing reads, because of the value of another key. A run logs them at its start.

Only values that differ from their default count. A merged configuration (`run_config.yaml`), which lists every key,
thus gives the same warnings as the file that it was made from. Keys that would mislead for certain are not warned of:
the check of their section refuses them.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from unet.config.segment import AFFINITY_METHODS

if TYPE_CHECKING:
    from unet.config.root import Config
    from unet.config.section import Section
    from unet.config.volumes import VolumeConfig


def non_default_keys(section: "Section") -> list[str]:
    """Return the keys of a section whose values differ from their defaults."""
    fields = type(section).model_fields
    return [
        key for key, field in fields.items() if getattr(section, key) != field.get_default(call_default_factory=True)
    ]


def unused_keys(config: "Config") -> list[str]:
    """Return one sentence per key that is set and not read. It names both keys."""
    return [
        *_keys_of_training_with_a_checkpoint(config),
        *_keys_of_training(config),
        *_keys_of_segment_and_slurm(config),
        *_keys_of_volumes(config),
        *_learnt_and_scored(config),
    ]


def _keys_of_training_with_a_checkpoint(config: "Config") -> Iterator[str]:
    given = config.model.checkpoint
    sections = [name for name in ("train", "weights") if non_default_keys(getattr(config, name))]
    if given is not None and sections:
        names = " and ".join(sections)
        yield f"model.checkpoint is {given}, so there is no training: the keys of {names} have no effect"


def _keys_of_training(config: "Config") -> Iterator[str]:
    train, augment, weights = config.train, config.train.augment, config.weights
    if config.model.checkpoint is not None:
        return
    for section, switch, off, keys in (
        ("train", "optimizer", "adamw", ["momentum"]),
        ("train.augment", "elastic_probability", 0, ["elastic_px", "elastic_grid"]),
        ("train.augment", "contrast_shift", 0, ["contrast_shift_std"]),
        ("train.augment", "misalignment", 0, ["misalignment_px"]),
        ("train.augment", "elastic_3d", (0, 0, 0), ["elastic_3d_grid", "elastic_3d_probability"]),
        ("train.augment", "blur_px", 0, ["blur_probability"]),
        ("train.augment", "blurred_section", 0, ["blurred_section_px"]),
        ("train.augment", "shifted_section", 0, ["shifted_section_px"]),
        ("train", "validation", [], ["validation_steps", "validation_crops"]),
        ("weights", "w0", 0, ["sigma"]),
        ("model", "architecture", "fcn8s", ["skip", "upsampling"]),
    ):
        one = {"train": train, "train.augment": augment, "weights": weights, "model": config.model}[section]
        if getattr(one, switch) == off:
            for key in sorted(set(keys) & set(non_default_keys(one))):
                yield f"{section}.{key} is {getattr(one, key)}, but has no effect with {section}.{switch}: {off}"
    kinds = {config.volumes[name].label_kind for name in config.labelled_volumes}
    if (
        "separation_border" in non_default_keys(weights)
        and "instances" not in kinds
        and config.model.output == "classes"
    ):
        yield (
            f"weights.separation_border is {weights.separation_border}, but has no effect: it is drawn between "
            "instances only, and no labels are of that kind"
        )
    if config.model.output == "affinities":
        yield from _weights_without_effect_on_affinities(config)
    if train.volume_weights and len(train.volumes) == 1:
        drawn = train.volume_weights
        yield f"train.volume_weights are {drawn}, but have no effect: train.volumes names one volume"
    for name in sorted(set(train.validation) & set(train.volumes)):
        yield (
            f"train.validation: volume {name!r} is in train.volumes, too: the best weights are chosen by voxels "
            "that they were trained on; name another volume"
        )


def learnt_volumes(config: "Config") -> list[str]:
    """Return the volumes from whose voxels the network learns: training volumes, and others with voxels of these."""
    trained = config.train.volumes if config.model.checkpoint is None else []
    volumes = config.volumes
    return [name for name in volumes if any(_share_voxels(volumes[name], volumes[other]) for other in trained)]


def _learnt_and_scored(config: "Config") -> Iterator[str]:
    """Yield a sentence for each volume that is scored and holds voxels of a training volume under another name."""
    trained = config.train.volumes if config.model.checkpoint is None else []
    scored = dict.fromkeys([*config.train.validation, *config.evaluate.volumes])
    for name in scored:
        for other in () if name in trained else trained:
            if _share_voxels(config.volumes[name], config.volumes[other]):
                path = config.volumes[name].raw[0].path
                yield (
                    f"volumes {name!r} and {other!r} hold voxels of the same file ({path}): "
                    f"{name!r} is scored, but the network learns from {other!r}, so its scores look too good; choose "
                    "parts that do not overlap by `sections` or `crop`"
                )


def _share_voxels(one: "VolumeConfig", other: "VolumeConfig") -> bool:
    """Return whether two volumes use the same voxels of the same file."""
    if one.raw[0].place != other.raw[0].place:
        return False
    ranges = [volume.crop or (volume.sections, None, None) for volume in (one, other)]
    return all(a is None or b is None or (a[0] < b[1] and b[0] < a[1]) for a, b in zip(*ranges, strict=True))


def _weights_without_effect_on_affinities(config: "Config") -> Iterator[str]:
    weights, instead = config.weights, {"class_balance": "class_balance", "separation_border": "erode_labels"}
    if not config.train.affinities.border_weight:
        instead |= {"w0": "border_weight", "sigma": "border_weight"}
    for key in sorted(set(instead) & set(non_default_keys(weights))):
        yield (
            f"weights.{key} is {getattr(weights, key)}, but has no effect with model.output: affinities; see "
            f"train.affinities.{instead[key]}"
        )


def _keys_of_segment_and_slurm(config: "Config") -> Iterator[str]:
    segment = config.segment
    linked = segment.method == "watershed" and segment.connectivity == "section"
    for key, one in (("max_section_gap", segment), ("size_mismatch_penalty", segment.agglomerate)):
        if not linked and key in non_default_keys(one):
            yield (
                f"segment.{'agglomerate.' if one is not segment else ''}{key} is {getattr(one, key)}, but has no "
                "effect without segment.method: watershed and segment.connectivity: section"
            )
    penalty, method = segment.agglomerate.size_mismatch_penalty, segment.agglomerate.method
    if linked and method in AFFINITY_METHODS and "size_mismatch_penalty" in non_default_keys(segment.agglomerate):
        yield (
            f"segment.agglomerate.size_mismatch_penalty is {penalty}, but has no effect with "
            f"segment.agglomerate.method: {method}"
        )
    if segment.max_offset_px is not None and not (segment.method == "watershed" and method in AFFINITY_METHODS):
        yield (
            f"segment.max_offset_px is {segment.max_offset_px}, but has no effect without "
            f"segment.method: watershed and segment.agglomerate.method: {' or '.join(AFFINITY_METHODS)}"
        )
    if config.predict.workers == "local" and (keys := non_default_keys(config.slurm)):
        yield f"slurm.{', slurm.'.join(keys)} have no effect without predict.workers: slurm"


def _keys_of_volumes(config: "Config") -> Iterator[str]:
    for name, volume in config.volumes.items():
        if name not in config.used_volumes:
            yield f"volumes.{name} is in no list of train, predict or evaluate: it is not read"
            continue
        if volume.labels is None and (
            keys := {"label_kind", "ignore_id", "class_values"} & set(non_default_keys(volume))
        ):
            yield f"volumes.{name}: {', '.join(sorted(keys))} have no effect without labels"
        scored = [key for key in ("compare", "skeletons") if getattr(volume, key)]
        if scored and name not in config.evaluate.volumes:
            yield f"volumes.{name}: {' and '.join(scored)} have no effect, since it is not in evaluate.volumes"
