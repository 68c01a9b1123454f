"""The whole configuration: its sections, and the checks across sections.

One file per section holds the section's keys, defaults and own checks. The JSON schema, the reference page and
`config/config.yaml` are generated from these models (`make config`).

What one section cannot know is checked here, in this order:

1. Paths: what has to be a file is no address, no path is empty, and Snakemake can take the folder of results.
2. Volumes: every named volume exists, has labels where they are needed, and is predicted where it is scored.
3. Model: something gives the model, the classes of all volumes agree with its classes, and labels and segmentation are
   for what it predicts.
4. Thresholds: `auto` has volumes that choose the threshold.
5. Training: volume weights and augmentation apply to what is trained.
6. Tiles: their sizes fit the network, and so does the test-time augmentation.

The first check that fails ends the list.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, field_validator, model_validator

from unet.config.affinities import problem_of_affinities
from unet.config.cross_section_checks import (
    problem_of_classes,
    problem_of_names,
    problem_of_paths,
    problem_of_seen_sections,
    problem_of_tiles,
)
from unet.config.errors import NO_VOLUME, explain
from unet.config.evaluate import EvaluateConfig
from unet.config.export import ExportConfig
from unet.config.export_volumes import ExportPrecomputedConfig, ExportTiffConfig, ExportWebknossosConfig
from unet.config.meshes import MeshesConfig, SkeletonsConfig
from unet.config.model import ModelConfig
from unet.config.normalisation import NormalisationConfig
from unet.config.objects import ObjectsConfig
from unet.config.plan import PlanConfig
from unet.config.predict import PredictConfig
from unet.config.report import ReportConfig
from unet.config.sample import SampleConfig
from unet.config.section import Section
from unet.config.segment import SegmentConfig
from unet.config.slurm import SlurmConfig
from unet.config.storage import StorageConfig
from unet.config.train import TrainConfig
from unet.config.verify import VerifyConfig
from unet.config.view import ViewConfig
from unet.config.volumes import VolumeConfig
from unet.config.weights import WeightsConfig
from unet.storage.address import without_credentials

HELD_BACK = 0.15
"""Share of the annotated sections that `train.held_back: auto` leaves out of volumes that choose thresholds."""


class ConfigError(ValueError):
    """The configuration cannot be used. The message has one line per problem: key, value and what is allowed.

    Credentials in addresses are left out: a message gets into logs and reports of errors.
    """

    def __init__(self, message: str) -> None:
        super().__init__(without_credentials(message))


class Config(Section):
    """All settings of a run."""

    results: str = Field("results", description="Folder of all files that a run writes.")
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
    objects: ObjectsConfig = ObjectsConfig()
    meshes: MeshesConfig = MeshesConfig()
    skeletons: SkeletonsConfig = SkeletonsConfig()
    verify: VerifyConfig = VerifyConfig()
    report: ReportConfig = ReportConfig()
    export: ExportConfig = ExportConfig()
    view: ViewConfig = ViewConfig()
    export_tiff: ExportTiffConfig = ExportTiffConfig()
    export_precomputed: ExportPrecomputedConfig = ExportPrecomputedConfig()
    export_webknossos: ExportWebknossosConfig = ExportWebknossosConfig()

    @field_validator("volumes")
    @classmethod
    def _some_volume(cls, volumes: dict[str, VolumeConfig]) -> dict[str, VolumeConfig]:
        if not volumes:
            raise ValueError(NO_VOLUME)
        return volumes

    # 1. Paths

    @model_validator(mode="after")
    def _paths_are_paths(self) -> "Config":
        files = {"model.checkpoint": self.model.checkpoint, "train.start_from": self.train.start_from}
        _refuse(problem_of_paths(self.results, files, self.inputs))
        return self

    # 2. Volumes

    @model_validator(mode="after")
    def _named_volumes_exist(self) -> "Config":
        _refuse(problem_of_names(self._volume_lists(), list(self.volumes)))
        return self

    @model_validator(mode="after")
    def _volumes_on_demand_exist(self) -> "Config":
        for key in ("view", "export_tiff", "export_precomputed", "export_webknossos"):
            name = getattr(self, key).volume
            if name is not None and name not in self.used_volumes:
                raise ValueError(
                    f"{key}.volume: no volume of this run is called {name!r}; there are {self.used_volumes}"
                )
        return self

    @model_validator(mode="after")
    def _named_volumes_have_labels(self) -> "Config":
        for key in ("train.volumes", "train.validation", "evaluate.volumes", "evaluate.threshold_volumes"):
            for name in self._volume_lists()[key]:
                if self.volumes[name].labels is None:
                    raise ValueError(f"{key}: volume {name!r} has no labels; set volumes.{name}.labels")
        return self

    @model_validator(mode="after")
    def _volumes_of_chosen_objects_are_predicted(self) -> "Config":
        for key, ids in (("meshes.ids", self.meshes.ids), ("skeletons.ids", self.skeletons.ids)):
            for name in ids:
                if name not in self.predict.volumes:
                    raise ValueError(
                        f"{key}: volume {name!r} is not in predict.volumes {self.predict.volumes}; add it there"
                    )
        return self

    @model_validator(mode="after")
    def _scored_volumes_are_predicted(self) -> "Config":
        for key in ("evaluate.volumes", "evaluate.threshold_volumes"):
            for name in self._volume_lists()[key]:
                if name not in self.predict.volumes:
                    raise ValueError(
                        f"{key}: volume {name!r} is not in predict.volumes {self.predict.volumes}; add it there"
                    )
        return self

    # 3. Model

    @model_validator(mode="after")
    def _something_gives_the_model(self) -> "Config":
        if self.model.checkpoint is None and not self.train.volumes:
            raise ValueError("train.volumes is empty and model.checkpoint is null: set one of them")
        return self

    @model_validator(mode="after")
    def _classes_agree(self) -> "Config":
        # ids have no classes, and those of a model file are compared by `check_model`
        if self.model.output == "classes" and self.model.checkpoint is None:
            _refuse(problem_of_classes(self.volumes, self.train, self.evaluate, self.segment))
        return self

    @model_validator(mode="after")
    def _linkage_is_chosen(self) -> "Config":
        """Replace the default of `segment.agglomerate.method`, a score of boundaries, where there are affinities."""
        given = self.segment.agglomerate
        if self.model.output == "affinities" and "method" not in given.model_fields_set:
            chosen = {"agglomerate": given.model_copy(update={"method": "average_linkage"})}
            if self.segment.method == "watershed":
                object.__setattr__(self, "segment", self.segment.model_copy(update=chosen))
        return self

    @model_validator(mode="after")
    def _output_fits(self) -> "Config":
        kinds = {name: self.volumes[name].label_kind for name in self.learning_volumes}
        _refuse(problem_of_affinities(self.model, self.train, self.predict, self.segment, kinds))
        return self

    @model_validator(mode="after")
    def _pooling_is_chosen(self) -> "Config":
        """Replace `model.pooling: auto` by the poolings for the voxel size of the first training volume."""
        if self.model.pooling != "auto" or self.model.checkpoint is not None:
            return self
        name = self.train.volumes[0]
        sides, merged = self.volumes[name].voxel_size_nm, self.volumes[name].downsample
        if sides is None:
            raise ValueError(
                f"model.pooling: auto needs the voxel size of volume {name!r}, from which the model learns: set "
                f"volumes.{name}.voxel_size_nm: [z, y, x]"
            )
        chosen = self.model.for_voxels([side * n for side, n in zip(sides, merged, strict=True)])
        object.__setattr__(self, "model", chosen)  # sections are frozen for all other code
        return self

    # 4. Thresholds

    @model_validator(mode="after")
    def _auto_thresholds_have_volumes(self) -> "Config":
        chosen = {
            "segment.threshold": self.segment.threshold,
            "segment.agglomerate.threshold": self.segment.agglomerate.threshold,
            "segment.decoder": self.segment.decoder,
        }
        for key, value in chosen.items():
            if value == "auto" and not self.evaluate.threshold_volumes:
                raise ValueError(f"{key}: auto needs evaluate.threshold_volumes, e.g. [train]")
        return self

    # 5. Training

    @model_validator(mode="after")
    def _volume_weights_are_of_training_volumes(self) -> "Config":
        for name in self.train.volume_weights:
            if name not in self.train.volumes:
                raise ValueError(f"train.volume_weights: {name!r} is not in train.volumes {self.train.volumes}")
        return self

    @model_validator(mode="after")
    def _defects_of_sections_are_for_3d(self) -> "Config":
        if self.model.checkpoint is None:  # a given model is not trained
            _refuse(problem_of_seen_sections(self.model, self.train.augment))
        return self

    # 6. Tiles

    @model_validator(mode="after")
    def _tiles_fit(self) -> "Config":
        if self.model.checkpoint is None:  # a given model has its own geometry, whatever the section `model` says
            _refuse(problem_of_tiles(self.model, self.train, self.predict))
        return self

    def held_back_share(self, volume: str) -> float:
        """Return the share of a volume's annotated sections that are left out of the training, to choose settings."""
        if self.model.checkpoint is not None or volume not in self.train.volumes:
            return 0.0
        if self.train.held_back != "auto":
            return self.train.held_back
        # whatever the section `segment` says now, so that another threshold does not train again
        return HELD_BACK if volume in self.evaluate.threshold_volumes else 0.0

    def _volume_lists(self) -> dict[str, list[str]]:
        """Return the names in each list of volumes that is read. With a given model the training reads none."""
        return {
            "train.volumes": self.train.volumes if self.model.checkpoint is None else [],
            "train.validation": self.train.validation if self.model.checkpoint is None else [],
            "predict.volumes": self.predict.volumes,
            "evaluate.volumes": self.evaluate.volumes,
            "evaluate.threshold_volumes": self.evaluate.threshold_volumes,
        }

    @property
    def given_model(self) -> str | None:
        """Return the model file of the user: the one that predicts, or the one whose weights a training continues."""
        return self.model.checkpoint or self.train.start_from

    @property
    def class_names(self) -> list[str]:
        """Return the names of the classes in the labels of `train.volumes`; the first is background."""
        return self.volumes[self.train.volumes[0]].class_names

    @property
    def learning_volumes(self) -> list[str]:
        """Return the volumes that the training reads: to train on, and to validate on."""
        lists = self._volume_lists()
        return list(dict.fromkeys(lists["train.volumes"] + lists["train.validation"]))

    @property
    def labelled_volumes(self) -> list[str]:
        """Return the volumes whose labels are used: for training, for scores, or to choose a threshold."""
        scored = [*self.evaluate.volumes, *self.evaluate.threshold_volumes]
        return list(dict.fromkeys([*self.learning_volumes, *scored]))

    def volume_or_first(self, name: str | None) -> str:
        """Return the name of a volume; None is the first volume that is predicted, or else used."""
        return name or (self.predict.volumes or self.used_volumes)[0]

    @property
    def annotated_volumes(self) -> list[str]:
        """Return the volumes that are read and have labels, whether the labels are used or not."""
        return [name for name in self.used_volumes if self.volumes[name].labels is not None]

    def is_sample(self, volume: VolumeConfig) -> bool:
        """Return whether a volume is the sample that this workflow makes."""
        return len(volume.raw) == 1 and Path(volume.raw[0].path).parent == Path(self.results) / "sample"

    @property
    def used_volumes(self) -> list[str]:
        """Return the volumes that some rule needs, in the order of the configuration."""
        needed = {name for names in self._volume_lists().values() for name in names}
        return [name for name in self.volumes if name in needed]

    @property
    def inputs(self) -> dict[str, str]:
        """Return the address of every input of the user by its configuration key, such as `volumes.train.raw`."""
        inputs: dict[str, str] = {}
        for name in self.used_volumes:
            inputs |= {f"volumes.{name}.{key}": given.path for key, given in self.volumes[name].sources.items()}
        for name in (one for one in self.used_volumes if one in self.evaluate.volumes):  # others are refused later
            scored = self.volumes[name]
            inputs |= {f"volumes.{name}.compare.{peer}": given.path for peer, given in scored.compare.items()}
            if scored.skeletons is not None:
                inputs[f"volumes.{name}.skeletons.files"] = scored.skeletons.files
        for name in self.used_volumes:
            stores = self.volumes[name].inside if name in self.predict.volumes else {}
            inputs |= {f"volumes.{name}.inside.{store}": given.path for store, given in stores.items()}
        if self.model.checkpoint is not None:
            inputs["model.checkpoint"] = self.model.checkpoint
        elif self.train.start_from is not None:
            inputs["train.start_from"] = self.train.start_from
        return inputs


def _refuse(problem: str | None) -> None:
    if problem is not None:
        raise ValueError(problem)


def load_config(values: Mapping[str, Any]) -> Config:
    """Return the checked configuration. A `~` at the beginning of a value becomes the home folder.

    Parameters
    ----------
    values
        Nested mappings as read from YAML.

    Raises
    ------
    ConfigError
        If a key, type, range or combination is wrong. The message names every key, its value and what is allowed.
    """
    try:
        return Config.model_validate(_with_home(dict(values)))
    except ValidationError as error:
        raise ConfigError(explain(error, Config)) from None


def _with_home(value: Any, key: str = "") -> Any:
    """Replace `~` and `~name` by home folders in all values of nested lists and mappings."""
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
