"""Find settings that are allowed and yet rarely meant. A run logs them at its start, beside `unused_keys`."""

from collections.abc import Iterator
from itertools import product

from unet.config.root import Config
from unet.config.unused_keys import non_default_keys

MAX_WIDTHS = 2.0
"""How many times as long as the other the sides of a voxel within a section may be."""


def doubtful_settings(config: Config) -> list[str]:
    """Return one sentence per setting that is rarely meant, with what to write instead."""
    return [*_voxel_sizes(config), *_warm_up(config), *_intensities_and_labels(config), *_repeated(config)]


def _voxel_sizes(config: Config) -> Iterator[str]:
    """Yield volumes whose voxels are not about square in the section, as after x, y, z in place of z, y, x."""
    for name in config.used_volumes:
        sides = config.volumes[name].voxel_size_nm
        if sides is None or max(sides[1:]) <= MAX_WIDTHS * min(sides[1:]):
            continue
        z, y, x = (f"{side:g}" for side in sides)
        yield (
            f"volumes.{name}.voxel_size_nm is [{z}, {y}, {x}], in the order z, y, x: voxels of {y} by {x} nm in "
            f"a section are unusual; for x, y, z write [{x}, {y}, {z}]"
        )


def _warm_up(config: Config) -> Iterator[str]:
    train = config.train
    given = config.model.checkpoint is None and "warmup_steps" in non_default_keys(train)
    if given and train.warmup_steps >= train.steps:
        yield (
            f"train.warmup_steps is {train.warmup_steps}, and train.steps is {train.steps}: the learning rate never "
            f"reaches {train.learning_rate:g}; lower warmup_steps"
        )


def _intensities_and_labels(config: Config) -> Iterator[str]:
    """Yield files that are intensities of one volume and labels of another one."""
    for one, other in product(config.used_volumes, repeat=2):
        labels = {given.place for given in config.volumes[other].labels or ()}
        for given in config.volumes[one].raw if one != other else ():
            if given.place in labels:
                yield f"volumes.{one}.raw and volumes.{other}.labels are both {given.path}; which of them is meant?"


def _repeated(config: Config) -> Iterator[str]:
    """Yield files that are listed twice as intensities or as labels of one volume."""
    for name in config.used_volumes:
        volume = config.volumes[name]
        for key, given in (("raw", volume.raw), ("labels", volume.labels or ())):
            places = [source.place for source in given]
            for source in given:
                if places.count(source.place) > 1:
                    yield f"volumes.{name}.{key} lists {source.path} {places.count(source.place)} times; list it once"
                    break
