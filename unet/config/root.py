"""The configuration: one frozen model a section, every default in one place.

The sections are in `unet.config.section` and `unet.config.section`, and are to be had from here. The JSON schema, the
reference page and `config/config.yaml` are generated from them (`make config`).
"""

import os
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Annotated, Any

from pydantic import Field, ValidationError, field_validator, model_validator

from unet.config.errors import explain
from unet.config.evaluate import EvaluateConfig
from unet.config.export import ExportConfig
from unet.config.model import ModelConfig
from unet.config.normalisation import NormalisationConfig
from unet.config.plan import PlanConfig
from unet.config.predict import PredictConfig
from unet.config.sample import SampleConfig
from unet.config.section import Section
from unet.config.segment import SegmentConfig
from unet.config.slurm import SlurmConfig
from unet.config.storage import StorageConfig
from unet.config.train import TrainConfig
from unet.config.verify import VerifyConfig
from unet.config.volumes import VolumeConfig
from unet.config.weights import WeightsConfig
from unet.geometry.tiling import TileSizeError, tile_geometry
from unet.storage.address import is_address


class ConfigError(ValueError):
    """The configuration cannot be used; the message has a line a problem: key, value and what is allowed."""


class Config(Section):
    """Everything a run depends on."""

    results: str = Field("results", description="folder of everything that is written")
    sample: SampleConfig = SampleConfig()
    volumes: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")], VolumeConfig]
    storage: StorageConfig = StorageConfig()
    normalisation: NormalisationConfig = NormalisationConfig()
    model: ModelConfig = ModelConfig()
    weights: WeightsConfig = WeightsConfig()
    train: TrainConfig = TrainConfig()
    predict: PredictConfig = PredictConfig()
    slurm: SlurmConfig = SlurmConfig()
    plan: PlanConfig = PlanConfig()
    segment: SegmentConfig = SegmentConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    verify: VerifyConfig = VerifyConfig()
    export: ExportConfig = ExportConfig()

    @model_validator(mode="after")
    def _files_are_no_addresses(self) -> "Config":
        for key, path in (("results", self.results), ("model.checkpoint", self.model.checkpoint or "")):
            if is_address(path):
                raise ValueError(
                    f"{key} is an address, but has to lie on a file system; only Zarr may lie elsewhere: "
                    "volumes.<name>.{raw, labels, mask, compare}, storage.address"
                )
        return self

    @model_validator(mode="after")
    def _paths_are_no_patterns(self) -> "Config":
        for key, path in {"results": self.results, **self.inputs}.items():
            if not path:
                raise ValueError(f"{key}: got '', which is no path; name a file or folder, or remove the line")
            if set("{}") & set(path):
                raise ValueError(
                    f"{key}: got {path!r}; Snakemake takes {{ and }} for wildcards: rename it without them"
                )
        return self

    @field_validator("volumes")
    @classmethod
    def _some_volume(cls, volumes: dict[str, VolumeConfig]) -> dict[str, VolumeConfig]:
        if not volumes:
            raise ValueError("name at least one volume")
        return volumes

    @model_validator(mode="after")
    def _names_exist(self) -> "Config":
        for key, names in self._volume_lists().items():
            for name in names:
                if name not in self.volumes:
                    similar = get_close_matches(name, self.volumes, n=1)
                    meant = f"; did you mean {similar[0]}?" if similar else ""
                    raise ValueError(f"{key}: no volume is called {name!r}; there are {sorted(self.volumes)}{meant}")
                if names.count(name) > 1:
                    more = "; to learn more from one volume than from others set train.volume_weights"
                    raise ValueError(
                        f"{key}: {names} names volume {name!r} {names.count(name)} times; name it once"
                        f"{more if key == 'train.volumes' else ''}"
                    )
        for key in ("train.volumes", "train.validation", "evaluate.volumes", "evaluate.threshold_volumes"):
            for name in self._volume_lists()[key]:
                needed = key != "train.volumes" or self.model.checkpoint is None
                if needed and self.volumes[name].labels is None:
                    raise ValueError(f"{key}: volume {name!r} has no labels; set volumes.{name}.labels")
        for key in ("evaluate.volumes", "evaluate.threshold_volumes"):
            for name in self._volume_lists()[key]:
                if name not in self.predict.volumes:
                    raise ValueError(
                        f"{key}: volume {name!r} is not in predict.volumes {self.predict.volumes}; add it there"
                    )
        return self

    @model_validator(mode="after")
    def _classes_agree(self) -> "Config":
        if self.model.checkpoint is None and not self.train.volumes:
            raise ValueError("train.volumes is empty and model.checkpoint is null: set one of them")
        if self.model.checkpoint is None:
            first = self.train.volumes[0]
            for name in (*self.train.volumes, *self.train.validation):
                ours, theirs = self.volumes[first].class_names, self.volumes[name].class_names
                if ours != theirs:
                    raise ValueError(f"train: volume {first!r} has classes {ours}, but {name!r} has {theirs}")
            for name in self.evaluate.volumes:
                ours, theirs = self.class_names, self.volumes[name].class_names
                if ours != theirs:
                    raise ValueError(
                        f"evaluate.volumes: volume {name!r} has classes {theirs}, but the model learns {ours} from "
                        f"volume {first!r}: give it the same label_kind and class_values, or take it out of "
                        "evaluate.volumes"
                    )
            unknown = [name for name in self.segment.classes if name and name not in self.class_names[1:]]
            if unknown:
                raise ValueError(f"segment.foreground: {unknown[0]!r} is not one of {self.class_names[1:]}")
        if self.segment.threshold == "auto" and not self.evaluate.threshold_volumes:
            raise ValueError("segment.threshold: auto needs evaluate.threshold_volumes, e.g. [train]")
        if self.segment.agglomerate.threshold == "auto" and not self.evaluate.threshold_volumes:
            raise ValueError("segment.agglomerate.threshold: auto needs evaluate.threshold_volumes, e.g. [train]")
        return self

    @model_validator(mode="after")
    def _training_agrees(self) -> "Config":
        for name in self.train.volume_weights:
            if name not in self.train.volumes:
                raise ValueError(f"train.volume_weights: {name!r} is not in train.volumes {self.train.volumes}")
        for key in ("missing_section", "misalignment"):
            share = getattr(self.train.augment, key)
            # a given model has dimensions of its own, and is not trained
            if share > 0 and self.model.dimensions == 2 and self.model.checkpoint is None:
                raise ValueError(
                    f"train.augment.{key} is {share}, but a 2-D network never sees two sections: "
                    "set it to 0, or model.dimensions to 3"
                )
        return self

    @model_validator(mode="after")
    def _tiles_fit(self) -> "Config":
        for key, tile in (("train.tile", self.train.tile), ("predict.tile", self.predict.tile)):
            # a given model has its own geometry, whatever the section `model` says
            if tile != "auto" and self.model.checkpoint is None:
                try:
                    tile_geometry(self.model, tile)
                except TileSizeError as error:
                    raise ValueError(f"{key}: {error}") from error
        return self

    def _volume_lists(self) -> dict[str, list[str]]:
        return {
            "train.volumes": self.train.volumes if self.model.checkpoint is None else [],
            "train.validation": self.train.validation if self.model.checkpoint is None else [],
            "predict.volumes": self.predict.volumes,
            "evaluate.volumes": self.evaluate.volumes,
            "evaluate.threshold_volumes": self.evaluate.threshold_volumes,
        }

    @property
    def class_names(self) -> list[str]:
        """Classes that `train.volumes` teach; the first is background."""
        return self.volumes[self.train.volumes[0]].class_names

    @property
    def learning_volumes(self) -> list[str]:
        """Volumes that a training reads."""
        lists = self._volume_lists()
        return list(dict.fromkeys(lists["train.volumes"] + lists["train.validation"]))

    @property
    def labelled_volumes(self) -> list[str]:
        """Volumes whose labels are used: those that are learnt from, that are scored, or that choose a threshold."""
        scored = [*self.evaluate.volumes, *self.evaluate.threshold_volumes]
        return list(dict.fromkeys([*self.learning_volumes, *scored]))

    @property
    def annotated_volumes(self) -> list[str]:
        """Volumes that are read and have labels, whether these are used or not."""
        return [name for name in self.used_volumes if self.volumes[name].labels is not None]

    @property
    def used_volumes(self) -> list[str]:
        """Volumes that some rule needs, in the order of the configuration."""
        needed = {name for names in self._volume_lists().values() for name in names}
        return [name for name in self.volumes if name in needed]

    @property
    def inputs(self) -> dict[str, str]:
        """Every address of the user's files by its configuration key, such as `volumes.train.raw`."""
        addresses = {
            f"volumes.{name}.{key}": getattr(self.volumes[name], key)
            for name in self.used_volumes
            for key in ("raw", "labels", "mask")
        }
        for name in self.evaluate.volumes:
            scored = self.volumes[name]
            addresses |= {f"volumes.{name}.compare.{peer}": address for peer, address in scored.compare.items()}
            addresses[f"volumes.{name}.skeletons.files"] = scored.skeletons and scored.skeletons.files
        addresses["model.checkpoint"] = self.model.checkpoint
        inputs: dict[str, str] = {}
        for key, value in addresses.items():
            if isinstance(value, list):
                inputs |= {f"{key}.{number}": address for number, address in enumerate(value)}
            elif value is not None:
                inputs[key] = value
        return inputs


def load_config(values: Mapping[str, Any]) -> Config:
    """The checked configuration; `~` at the beginning of a value is the home folder.

    Parameters
    ----------
    values
        Nested mappings as read from YAML.

    Raises
    ------
    ConfigError
        If a key, type, range or combination is wrong; names every key, its value and what is allowed.
    """
    try:
        return Config.model_validate(_with_home(dict(values)))
    except ValidationError as error:
        raise ConfigError(explain(error, Config)) from None


def _with_home(value: Any, key: str = "") -> Any:
    """`~/data` and `~name/data` as the folders that they mean, wherever they stand in nested lists and mappings."""
    if isinstance(value, Mapping):
        return {name: _with_home(inner, f"{key}.{name}".lstrip(".")) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_with_home(inner, f"{key}.{number}") for number, inner in enumerate(value)]
    if not isinstance(value, str) or not value.startswith("~"):
        return value
    expanded = os.path.expanduser(value)
    if expanded == value:
        who = value.partition("/")[0]
        raise ConfigError(f"{key}: got {value!r}, but there is no home folder of {who}; write the path in full")
    return expanded
