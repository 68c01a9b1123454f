"""Settings of several sections that do not go together: each check returns what is wrong and what to do, or None."""

import os
import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches

from unet.config.evaluate import EvaluateConfig
from unet.config.model import ModelConfig
from unet.config.predict import PredictConfig
from unet.config.segment import SegmentConfig
from unet.config.train import AugmentConfig, TrainConfig
from unet.config.volumes import VolumeConfig
from unet.geometry.tiling import TileSizeError, tile_geometry
from unet.geometry.training_tile import training_geometry
from unet.storage.address import is_address, split_path

LONGEST_NAME = 100
"""Letters of a volume's name, which becomes the name of folders and files."""
SEVERAL_SECTIONS = ("missing_section", "misalignment", "jitter_px", "shifted_section", "symmetries", "elastic_3d")
"""Keys of `train.augment` that only a network that sees several sections can learn from."""


def problem_of_paths(results: str, files: Mapping[str, str | None], inputs: Mapping[str, str]) -> str | None:
    """Return which file of a run cannot lie at an address, or which path is none.

    Parameters
    ----------
    results : str
        Folder of results.
    files, inputs : mapping
        What has to be a file, and all inputs, by their configuration keys.
    """
    for key, path in {"results": results, **files}.items():
        if is_address(path or ""):
            return (
                f"{key} is an address, but has to lie on a file system; only Zarr may lie elsewhere: "
                "volumes.<name>.{raw, labels, mask, compare, inside}, storage.address"
            )
    for key, path in {"results": results, **inputs}.items():
        if not path:
            return f"{key}: got '', which is no path; name a file or folder, or remove the line"
        if not path.isprintable():
            return f"{key}: got {path!r}, with a line break or another control character; correct or rename it"
    stores, model = (os.path.realpath(f"{results}/{name}") for name in ("volumes", "model/model.pt"))
    for key, path in inputs.items():
        file = "" if is_address(path) else os.path.realpath(split_path(path)[0])
        if f"{file}/".startswith(f"{stores}/"):
            return (
                f"{key}: {path} is made by this run, so it would read what it writes; copy it elsewhere, or set "
                "another folder of results"
            )
        if key == "train.start_from" and file == model:
            return (
                f"{key}: the training would write its model to {path}, from which it starts; copy the file elsewhere, "
                "or set another folder of results"
            )
    if set("{}") & set(results):  # input files are parameters, which Snakemake takes as they are
        return f"results: got {results!r}; Snakemake takes {{ and }} for wildcards: name a folder without them"
    return None


def problem_of_names(lists: Mapping[str, Sequence[str]], volumes: Sequence[str]) -> str | None:
    """Return which name is no name of a folder, which two share one, or which list names a volume wrongly."""
    for name in volumes:
        if len(name) > LONGEST_NAME:
            return f"volumes: the name {name[:20]}... has {len(name)} letters; it can have {LONGEST_NAME}: shorten it"
        if repeated := re.search(r"(.+?)\1{19,}$", name):
            return (
                f"volumes: {name!r} ends with {repeated[1]!r} 20 times or more, which Snakemake takes for an endless "
                "chain of jobs: rename it"
            )
    folders = {name.lower(): name for name in volumes}
    for name in volumes:
        if name != (other := folders[name.lower()]):
            return (
                f"volumes: {name!r} and {other!r} differ in capital letters alone, and are one folder on some systems: "
                "rename one"
            )
    for key, names in lists.items():
        for name in names:
            if name not in volumes:
                similar = get_close_matches(name, volumes, n=1)
                meant = f"; did you mean {similar[0]}?" if similar else ""
                return f"{key}: no volume is called {name!r}; there are {sorted(volumes)}{meant}"
            if names.count(name) > 1:
                more = "; to learn more from one volume than from others set train.volume_weights"
                return (
                    f"{key}: {names} names volume {name!r} {names.count(name)} times; name it once"
                    f"{more if key == 'train.volumes' else ''}"
                )
    return None


def problem_of_classes(
    volumes: Mapping[str, VolumeConfig], train: TrainConfig, evaluate: EvaluateConfig, segment: SegmentConfig
) -> str | None:
    """Return which volume has other classes than the first training volume, or which class there is not."""
    first = train.volumes[0]
    classes = volumes[first].class_names
    for name in (*train.volumes, *train.validation):
        if volumes[name].class_names != classes:
            return f"train: volume {first!r} has classes {classes}, but {name!r} has {volumes[name].class_names}"
    for name in evaluate.volumes:
        if volumes[name].class_names != classes:
            return (
                f"evaluate.volumes: volume {name!r} has classes {volumes[name].class_names}, but the model learns "
                f"{classes} from volume {first!r}: give it the same label_kind and class_values, or take it out of "
                "evaluate.volumes"
            )
    unknown = [name for name in segment.classes if name and name not in classes[1:]]
    return f"segment.foreground: {unknown[0]!r} is not one of {classes[1:]}" if unknown else None


def problem_of_seen_sections(model: ModelConfig, augment: AugmentConfig) -> str | None:
    """Return which augmentation changes sections against each other, where the network sees one section alone."""
    for key in SEVERAL_SECTIONS:
        share = getattr(augment, key)
        if not model.sees_sections and share not in (0, "none", (0, 0, 0)):
            return (
                f"train.augment.{key} is {share}, but a 2-D network without context never sees two sections: "
                "remove it, or set model.dimensions to 3 or model.context_sections above 0"
            )
    return None


def problem_of_tiles(model: ModelConfig, train: TrainConfig, predict: PredictConfig) -> str | None:
    """Return which tile does not fit the network, or which average over symmetries needs a network in 3-D."""
    if train.loss_region == "tile" and model.convolution == "valid":
        return (
            "train.loss_region is tile, but model.convolution is valid, which pads nothing: set it to exact, or "
            "model.convolution to same"
        )
    try:
        training_geometry(model, train.tile, train.loss_region)
    except TileSizeError as error:
        return f"train.tile: {error}"
    try:
        if predict.tile != "auto":
            tile_geometry(model, predict.tile)
    except TileSizeError as error:
        return f"predict.tile: {error}"
    chosen = predict.test_time_augmentation
    if model.dimensions == 2 and chosen in ("flips_3d", "symmetries_3d", "cube"):
        return (
            f"predict.test_time_augmentation: {chosen} reverses the order of sections, but model.dimensions is 2: "
            "set flips or symmetries, or model.dimensions to 3"
        )
    return None
