"""Keys of a configuration that nothing reads, because another key says so: told when a run starts.

Only values that differ from the default count, so that a merged configuration (`run_config.yaml`) says no more than the
one that it was made from. What would mislead for certain is refused where the section is checked; this is the rest.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unet.config.root import Config
    from unet.config.section import Section


def non_default_keys(section: "Section") -> list[str]:
    """The keys of a section whose values are not the defaults."""
    fields = type(section).model_fields
    return [
        key for key, field in fields.items() if getattr(section, key) != field.get_default(call_default_factory=True)
    ]


def unused_keys(config: "Config") -> list[str]:
    """One sentence for each key that is set and not read, naming both keys and what to do."""
    return [*_beside_a_given_model(config), *_of_the_training(config), *_elsewhere(config), *_of_volumes(config)]


def _beside_a_given_model(config: "Config") -> Iterator[str]:
    given = config.model.checkpoint
    sections = [name for name in ("train", "weights") if non_default_keys(getattr(config, name))]
    if given is not None and sections:
        yield f"model.checkpoint is {given}, so there is no training: what {' and '.join(sections)} say has no effect"


def _of_the_training(config: "Config") -> Iterator[str]:
    train, augment, weights = config.train, config.train.augment, config.weights
    if config.model.checkpoint is not None:
        return
    for section, switch, off, keys in (
        ("train", "optimizer", "adamw", ["momentum"]),
        ("train.augment", "elastic_probability", 0, ["elastic_px", "elastic_grid"]),
        ("train.augment", "contrast_shift", 0, ["contrast_shift_std"]),
        ("train.augment", "misalignment", 0, ["misalignment_px"]),
        ("train", "validation", [], ["validation_steps", "validation_crops"]),
        ("weights", "w0", 0, ["sigma"]),
        ("model", "architecture", "fcn8s", ["skip", "upsampling"]),
    ):
        one = {"train": train, "train.augment": augment, "weights": weights, "model": config.model}[section]
        if getattr(one, switch) == off:
            for key in sorted(set(keys) & set(non_default_keys(one))):
                yield f"{section}.{key} is {getattr(one, key)}, but has no effect beside {section}.{switch}: {off}"
    kinds = {config.volumes[name].label_kind for name in config.labelled_volumes}
    if "separation_border" in non_default_keys(weights) and "instances" not in kinds:
        yield (
            f"weights.separation_border is {weights.separation_border}, but has no effect: it is drawn between "
            "instances only, and no labels are of that kind"
        )
    if train.volume_weights and len(train.volumes) == 1:
        drawn = train.volume_weights
        yield f"train.volume_weights are {drawn}, but have no effect: there is one volume in train.volumes"
    for name in sorted(set(train.validation) & set(train.volumes)):
        yield (
            f"train.validation: volume {name!r} is in train.volumes, too: the checkpoint is chosen by voxels that were "
            "learnt from; name another volume"
        )


def _elsewhere(config: "Config") -> Iterator[str]:
    segment = config.segment
    linked = segment.method == "watershed" and segment.connectivity == "section"
    for key, one in (("max_section_gap", segment), ("size_mismatch_penalty", segment.agglomerate)):
        if not linked and key in non_default_keys(one):
            yield (
                f"segment.{'agglomerate.' if one is not segment else ''}{key} is {getattr(one, key)}, but has no "
                "effect without segment.method: watershed and segment.connectivity: section"
            )
    if config.predict.workers == "local" and (keys := non_default_keys(config.slurm)):
        yield f"slurm.{', slurm.'.join(keys)} have no effect without predict.workers: slurm"


def _of_volumes(config: "Config") -> Iterator[str]:
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
