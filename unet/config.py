"""The configuration: one frozen model a section, every default in one place.

The JSON schema, the reference page and `config/config.yaml` are generated from here (`make config`).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from unet.annotation import IGNORE, class_names
from unet.places import checked_address, is_address

NonNegativeFloat = Annotated[float, Field(ge=0)]
PositiveInt = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
Probability = Annotated[float, Field(ge=0, le=1)]
OpenProbability = Annotated[float, Field(gt=0, lt=1)]
Precision = Literal["float32", "bfloat16", "float16"]
Triple = tuple[PositiveInt, PositiveInt, PositiveInt]


class ConfigError(ValueError):
    """The configuration cannot be used; the message names key, value and what is allowed."""


class Section(BaseModel):
    """A part of the configuration: frozen, and unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def _no_bool_as_number(cls, value: Any, info: ValidationInfo) -> Any:
        """YAML's `yes` would count as 1."""
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation is not bool:
            raise PydanticCustomError("bool", "Input should not be true or false")
        return value


class SampleConfig(Section):
    """The generated sample volume, written to `{results}/sample/raw.tif` and `labels.tif`."""

    sections: Annotated[int, Field(ge=4)] = Field(24, description="number of sections")
    size: Annotated[int, Field(ge=64)] = Field(512, description="side of a section in px")
    seed: int = Field(1, description="the same seed gives the same volume, bit for bit")


class VolumeConfig(Section):
    """One volume: image files, and what is known of them."""

    raw: str | Annotated[list[str], Field(min_length=1)] = Field(
        description="grey values: a directory of TIFF or PNG sections, a multi-page TIFF, HDF5 as "
        "`file.h5:/dataset`, MRC, Zarr v2 or v3, OME-Zarr; a list of them, or an axis c, is several input channels; "
        "Zarr also at an address, `s3://bucket/volume.zarr:/path`"
    )
    labels: str | None = Field(None, description="annotation of the same shape, in the same formats")
    label_kind: Literal["instances", "interior", "classes"] = Field(
        "instances", description="instances: one id a cell | interior: 0 = membrane | classes: grey values"
    )
    class_values: dict[str, int | list[int]] = Field(
        default_factory=dict,
        description=f"for `classes`: name -> grey values, the first name is background; `{IGNORE}` = not annotated",
    )
    ignore_id: int | None = Field(None, ge=0, description="for `instances`: the id that means not annotated")
    voxel_nm: tuple[PositiveFloat, PositiveFloat, PositiveFloat] | None = Field(
        None, description="z, y, x in nm; read from the file where it says so, an error where they disagree"
    )
    sections: tuple[Annotated[int, Field(ge=0)], PositiveInt] | None = Field(
        None, description="half-open range of sections; null = all"
    )
    mask: str | None = Field(None, description="not 0 where there is tissue; elsewhere nothing is learnt or found")
    compare: dict[str, str] = Field(
        default_factory=dict,
        description="others' segmentations of the same voxels, name -> file, scored beside ours; 0 = they say nothing",
    )

    @field_validator("raw", "labels", "mask", "compare")
    @classmethod
    def _no_credentials(cls, value: Any) -> Any:
        for address in value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]:
            checked_address(address or "")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> "VolumeConfig":
        if self.sections is not None and self.sections[0] >= self.sections[1]:
            raise ValueError(f"sections {list(self.sections)} is empty; it is a half-open range, e.g. [0, 21]")
        if self.label_kind == "classes" and self.labels and len(self.class_names) < 2:
            raise ValueError(f"label_kind: classes needs at least two names in class_values, got {self.class_names}")
        if self.label_kind != "classes" and self.class_values:
            raise ValueError(f"class_values is for label_kind: classes, but label_kind is {self.label_kind}")
        return self

    @property
    def class_names(self) -> list[str]:
        """Names of the classes that a network learns from this volume; the first is background."""
        if self.label_kind != "classes":
            return ["membrane", "interior"]
        return class_names(self.class_values)

    @property
    def grey_values_of_class(self) -> dict[str, list[int]]:
        """`class_values` with every entry as a list."""
        return {k: [v] if isinstance(v, int) else list(v) for k, v in self.class_values.items()}


class StorageConfig(Section):
    """How volumes are cut, and where they lie."""

    chunk: Triple = Field((8, 128, 128), description="z, y, x of a compressed chunk")
    block: Triple = Field(
        (16, 1024, 1024),
        description="z, y, x of a block: one file, what is computed at once; whole multiples of the chunk",
    )
    address: str | None = Field(
        None,
        description="where the Zarr stores are written, e.g. `s3://bucket/run`; all else, the locks too, stays in "
        "`results`; null: they lie there as well",
    )

    @field_validator("address")
    @classmethod
    def _an_address(cls, address: str | None) -> str | None:
        if address is not None and not is_address(address):
            raise ValueError(f"got {address!r}; an address begins with s3:// or the like; for a folder set `results`")
        return address and checked_address(address).rstrip("/")

    @model_validator(mode="after")
    def _whole_chunks(self) -> "StorageConfig":
        if any(b % c for b, c in zip(self.block, self.chunk, strict=True)):
            raise ValueError(f"block {list(self.block)} is not a whole multiple of chunk {list(self.chunk)}")
        return self


class ModelConfig(Section):
    """The network. The defaults are the paper's (Ronneberger, Fischer, Brox 2015)."""

    dimensions: Literal[2, 3] = Field(2, description="2 (the paper): section by section | 3")
    depth: int = Field(5, ge=2, le=6, description="levels of resolution; one pooling fewer")
    base_channels: PositiveInt = Field(64, description="channels of the first level; they double a level")
    architecture: Literal["unet", "fcn8s"] = Field(
        "unet", description="unet | fcn8s (Long, Shelhamer, Darrell 2015: the comparison)"
    )
    convolution: Literal["valid", "same"] = Field("valid", description="valid (the paper) | same: zero-padded")
    upsampling: Literal["transposed", "bilinear"] = Field("transposed", description="transposed (the paper)")
    skip: Literal["concatenate", "add"] = Field("concatenate", description="concatenate (the paper) | add")
    normalisation: Literal["none", "batch"] = Field("none", description="none (the paper) | batch")
    dropout: float = Field(0.5, ge=0, lt=1, description="at the end of the contracting path")
    pooling: list[Triple] | None = Field(
        None, description="z, y, x factors of each pooling; null = 2 along every axis of the network"
    )
    checkpoint: str | None = Field(None, description="a trained `model.pt`: no training then")
    voxel_tolerance: NonNegativeFloat = Field(
        0.1, description="largest relative difference between a volume's voxels and those the model was trained on"
    )

    @model_validator(mode="after")
    def _pooling_fits(self) -> "ModelConfig":
        if self.architecture == "fcn8s" and self.depth < 3:
            raise ValueError(f"fcn8s fuses the three deepest levels: depth must be >= 3, got {self.depth}")
        if self.pooling is not None:
            if len(self.pooling) != self.depth - 1:
                raise ValueError(
                    f"pooling has {len(self.pooling)} entries; depth {self.depth} has {self.depth - 1} poolings"
                )
            if any(factor not in (1, 2) for level in self.pooling for factor in level):
                raise ValueError(f"pooling factors are 1 or 2, got {[list(level) for level in self.pooling]}")
            if self.dimensions == 2 and any(level[0] != 1 for level in self.pooling):
                raise ValueError("a 2-D network does not pool along z: the first factor of each pooling is 1")
        return self


class WeightsConfig(Section):
    """Equation 2: w(x) = w_c(x) + w0 exp(-(d1 + d2)^2 / (2 sigma^2)). The paper's: w0 10, class_balance true."""

    w0: NonNegativeFloat = Field(5.0, description="weight of the borders between touching cells; the paper's is 10")
    sigma: PositiveFloat = Field(5.0, description="width of that border weight in px")
    class_balance: bool = Field(
        False,
        description="weigh the classes by their frequency over `train.volumes`, as the paper does; it widens membranes",
    )
    separation_border: Annotated[int, Field(ge=0)] = Field(
        1, description="px made background on either side where two cells touch"
    )


class AugmentConfig(Section):
    """Random changes of a training patch; geometry moves raw, targets and weights together."""

    flips: bool = Field(True, description="mirror along y and x")
    rotation: Literal["none", "right", "any"] = Field("any", description="none | right: quarter turns | any angle")
    elastic_px: NonNegativeFloat = Field(10.0, description="std of the random vectors of the coarse grid in px")
    elastic_grid: Annotated[int, Field(ge=2)] = Field(3, description="vectors along a side of the coarse grid")
    elastic_probability: Probability = Field(1.0, description="share of the patches that are deformed")
    brightness: NonNegativeFloat = Field(0.2, description="std of the added grey value, in std of the volume")
    contrast: NonNegativeFloat = Field(0.2, description="std of log2 of the grey-value gain")
    noise: NonNegativeFloat = Field(0.1, description="largest std of added noise, in std of the volume")
    contrast_shift: Probability = Field(
        0.0, description="share of the sections with a brightness and contrast of their own, as badly stained ones have"
    )
    contrast_shift_std: NonNegativeFloat = Field(
        0.7, description="std of log2 of such a section's gain, and of its added grey value in std of the volume"
    )
    missing_section: Probability = Field(
        0.0, description="share of the sections that are blank, to be bridged from their neighbours; 3-D networks only"
    )
    misalignment: Probability = Field(
        0.0, description="share of the sections from which on the volume jumps sideways; 3-D networks only"
    )
    misalignment_px: NonNegativeFloat = Field(8.0, description="std of that jump in px, along y and x")


class TrainConfig(Section):
    """Training: which volumes, how long, how."""

    volumes: list[str] = Field(["train"], description="volumes with labels to learn from")
    volume_weights: dict[str, PositiveFloat] = Field(
        default_factory=dict, description="how much more often a labelled voxel of a volume is drawn; 1 where not named"
    )
    validation: list[str] = Field(
        [], description="volumes with labels that choose the best checkpoint; without any the last one is kept"
    )
    steps: PositiveInt = Field(20_000, description="optimiser steps")
    tile: PositiveInt | Triple = Field(572, description="input side in px (or z, y, x)")
    batch: PositiveInt = Field(1, description="tiles a step and GPU")
    gpus: PositiveInt = Field(1, description="GPUs of the job (processes on a CPU); each takes `batch` tiles a step")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="auto: bfloat16 on a GPU that has it, else float32; weights are float32 always"
    )
    compile: Literal["auto", "always", "never"] = Field(
        "auto", description="torch.compile; auto: on a GPU, where the steps are many enough to pay for it"
    )
    optimizer: Literal["sgd", "adamw"] = Field("sgd", description="sgd (the paper) | adamw")
    learning_rate: PositiveFloat = Field(0.001, description="at its highest; the paper gives none")
    momentum: Annotated[float, Field(ge=0, lt=1)] = Field(0.99, description="of sgd")
    weight_decay: NonNegativeFloat = Field(0.0, description="of the optimiser")
    schedule: Literal["constant", "cosine"] = Field("cosine", description="learning rate after the warm-up")
    warmup_steps: Annotated[int, Field(ge=0)] = Field(100, description="linear rise of the learning rate")
    clip_norm: PositiveFloat | None = Field(1.0, description="largest gradient norm; null = no clipping")
    spike_factor: Annotated[float, Field(gt=1)] | None = Field(
        20.0,
        description="mean loss of 20 steps over that of the 200 before, at which training stops; null = never",
    )
    seed: int = Field(0, description="the same seed gives the same model on CPU")
    augment: AugmentConfig = Field(AugmentConfig(), description="random changes of the patches")
    checkpoint_minutes: PositiveFloat = Field(5.0, description="state written this often, to continue after a kill")
    log_steps: PositiveInt = Field(20, description="steps between two lines of training.jsonl")
    validation_steps: PositiveInt = Field(200, description="steps between two looks at the validation volumes")
    validation_windows: PositiveInt = Field(4, description="windows of 512 x 512 px that a look predicts and scores")
    patience: PositiveInt | None = Field(None, description="looks without a better score that end the training early")
    tensorboard: bool = Field(False, description="TensorBoard event files as well; needs `pip install tensorboard`")


class PredictConfig(Section):
    """Overlap-tile inference."""

    volumes: list[str] = Field(["train"], description="volumes to predict and segment")
    tile: PositiveInt | Triple | Literal["auto"] = Field(
        "auto", description="input side in px (or z, y, x); auto: the least arithmetic that fits into the free memory"
    )
    batch: PositiveInt | Literal["auto"] = Field(
        "auto", description="tiles that go through the network at once; auto: as many as fill a GPU, on a CPU one"
    )
    average: Literal["none", "flips", "symmetries", "rotations"] = Field(
        "none",
        description="none | flips: mean over 4 | symmetries: mean over the square's 8 | rotations: mean over 7, as in "
        "the paper",
    )
    precision: Precision | Literal["auto"] = Field(
        "auto", description="of the convolutions; auto: bfloat16 on a GPU that has it, else float32"
    )
    compile: Literal["auto", "always", "never"] = Field(
        "auto", description="torch.compile; auto: on a GPU, where the volume is large enough to pay for it"
    )
    dtype: Literal["uint8", "float32"] = Field("uint8", description="of probability.zarr; uint8 = p x 255 rounded")
    shard_voxels: PositiveInt | Literal["auto"] = Field(
        "auto",
        description="voxels of one job, rounded down to whole blocks; auto = 268 million, or more where that would "
        "make more than 1,000 jobs",
    )
    blocks_in_flight: Annotated[int, Field(ge=1)] = Field(
        4, description="of a process at once: reading, computing and writing overlap; bounds its memory"
    )
    block_minutes: PositiveFloat = Field(
        60, description="after which a block counts as hanging, is tried elsewhere, then reported"
    )
    dask: Literal["job", "slurm"] = Field(
        "job",
        description="job: each job predicts its shard itself | slurm: on workers, SLURM jobs as section slurm says",
    )
    scheduler: str | None = Field(
        None,
        description="address of a dask scheduler whose workers predict, e.g. tcp://node1:8786; null: as `dask` says",
    )
    dashboard: bool = Field(True, description="dask's dashboard, on the machine of the job; its address is in the log")

    @model_validator(mode="after")
    def _one_place(self) -> "PredictConfig":
        if self.dask == "slurm" and self.scheduler is not None:
            raise ValueError(
                f"dask: slurm and scheduler: {self.scheduler} are two places to predict; remove one of them"
            )
        return self


class PlanConfig(Section):
    """`snakemake plan`: what there is to compute with, and what it costs. Nothing here changes a result."""

    cores: PositiveInt | None = Field(None, description="of all machines together; null = those of this one")
    gpus: Annotated[int, Field(ge=0)] | None = Field(None, description="of all machines together; null = as found here")
    gpu_flops: PositiveFloat | None = Field(
        None,
        description="operations a second that a GPU reaches in the network, where none is at hand to be measured",
    )
    gpu_memory_gb: PositiveFloat = Field(16, description="of a GPU that is not at hand")
    price_per_gpu_hour: NonNegativeFloat | None = Field(None, description="of a GPU with its cores")
    price_per_core_hour: NonNegativeFloat | None = Field(None, description="of a core without a GPU")
    currency: str = Field("", description="of the prices, for people")
    most_files: PositiveInt | None = Field(None, description="quota of files; null = what the file system has free")


class SlurmConfig(Section):
    """Workers of a prediction with `predict.dask: slurm`, each a SLURM job of its own."""

    workers: PositiveInt = Field(8, description="at once, for each prediction job")
    partition: str | None = Field(None, description="SLURM partition; null = the cluster's default")
    account: str | None = Field(None, description="account that pays; null = the user's default")
    gpus: Annotated[int, Field(ge=0)] = Field(1, description="GPUs of a worker; 0: it computes on its cores")
    gpu_model: str | None = Field(None, description="type of GPU as `sinfo -o %G` calls it, e.g. a100; null = any")
    cores: PositiveInt = Field(4, description="cores of a worker")
    memory_mb: PositiveInt = Field(16_000, description="memory of a worker")
    time_limit_minutes: PositiveFloat = Field(240, description="of a worker's job")
    leave_minutes: PositiveFloat = Field(
        15, description="a worker leaves so long before its time limit, and is replaced: more than a block takes"
    )
    stagger_minutes: NonNegativeFloat = Field(
        10, description="up to twice as much earlier, by chance, so that not all leave at once"
    )
    interface: str | None = Field(None, description="network on which workers find the job, e.g. ib0")
    options: list[str] = Field([], description="further options of sbatch, e.g. --constraint=ssd")

    @model_validator(mode="after")
    def _stays_for_a_while(self) -> "SlurmConfig":
        left = self.time_limit_minutes - self.leave_minutes - 2 * self.stagger_minutes
        if left <= 0:
            raise ValueError(
                f"a worker would leave at once: time_limit_minutes {self.time_limit_minutes:g} - leave_minutes "
                f"{self.leave_minutes:g} - 2 x stagger_minutes {self.stagger_minutes:g} is {left:g}"
            )
        return self


class WatershedConfig(Section):
    """Fragments of the foreground; all lengths in px of the section."""

    reach_px: PositiveFloat = Field(6.0, description="distance to the membrane above which all is equally far inside")
    smoothing_px: NonNegativeFloat = Field(
        1.0, description="std of the Gaussian over that distance: more gives fewer, larger fragments"
    )
    grow_px: NonNegativeFloat = Field(6.0, description="how far fragments extend into the membrane")


class AgglomerateConfig(Section):
    """Joining the fragments of the watershed; a change here merges and relabels, and labels nothing again."""

    method: Literal["none", "mean", "quantile", "multicut"] = Field(
        "mean",
        description="none | mean, quantile: of the boundary probability over a contact | multicut: needs bioimage-cpp",
    )
    threshold: OpenProbability | Literal["auto"] = Field(
        0.5,
        description="fragments whose boundary scores less are joined; auto = least VOI on `evaluate.threshold_volumes`",
    )
    quantile: Probability = Field(0.5, description="for `quantile`: 0.5 is the median")
    mismatch: NonNegativeFloat = Field(
        0.1,
        description="for connectivity `section`: how much it speaks against a link between two sections that the two "
        "fragments are larger than their overlap",
    )


class SegmentConfig(Section):
    """From probabilities to instances."""

    method: Literal["components", "watershed"] = Field(
        "components", description="components: connected above the threshold (the paper) | watershed, then agglomerate"
    )
    threshold: OpenProbability | Literal["auto"] = Field(
        0.5, description="of the foreground's probability; auto = best V_rand on `evaluate.threshold_volumes`"
    )
    foreground: str | list[str] | None = Field(
        None, description="class that makes instances, null = the last; for components several, each with its instances"
    )
    connectivity: Literal["section", "volume"] = Field(
        "section",
        description="section: each section alone; the fragments of a watershed are then linked by agglomerate | "
        "volume: in 3-D",
    )
    bridge_sections: Annotated[int, Field(ge=0)] | None = Field(
        1,
        description="for a watershed per section: bad or missing sections that a link between fragments may skip; "
        "null = sections are not linked",
    )
    watershed: WatershedConfig = Field(WatershedConfig(), description="for method `watershed`")
    agglomerate: AgglomerateConfig = Field(AgglomerateConfig(), description="for method `watershed`")
    fill_holes: Annotated[int, Field(ge=0)] = Field(
        0, description="what one object encloses, of at most this many voxels, becomes part of it"
    )
    minimum_size: Annotated[int, Field(ge=0)] = Field(0, description="smaller objects are removed (voxels)")
    first_id: PositiveInt = Field(1, description="id of the first object; ids are dense and in scan order")

    @model_validator(mode="after")
    def _one_class_for_watershed(self) -> "SegmentConfig":
        if self.method == "watershed" and isinstance(self.foreground, list):
            raise ValueError(f"segment.foreground {self.foreground}: a watershed needs one class, the cells' interior")
        if self.foreground == []:
            raise ValueError("segment.foreground is empty: name a class, or null for the last")
        return self

    @property
    def classes(self) -> list[str | None]:
        """The classes that make instances; None = the last."""
        return list(self.foreground) if isinstance(self.foreground, list) else [self.foreground]

    @property
    def main_class(self) -> str | None:
        """The class whose threshold is swept."""
        return self.classes[0]

    @property
    def sections_alone(self) -> bool:
        """Whether no object extends over two sections."""
        joined = self.method == "watershed" and self.agglomerate.method != "none"
        return self.connectivity == "section" and not (joined and self.bridge_sections is not None)

    @property
    def has_graph(self) -> bool:
        """Whether it takes to know which fragments touch."""
        return self.fill_holes > 0 or (self.method == "watershed" and self.agglomerate.method != "none")


class EvaluateConfig(Section):
    """Scores against the labels."""

    volumes: list[str] = Field([], description="volumes to score")
    threshold_volumes: list[str] = Field(
        [], description="volumes whose best V_rand chooses the threshold; normally the training volumes"
    )


class VerifyConfig(Section):
    """`snakemake verify`: windows that are inferred again."""

    windows: PositiveInt = Field(8, description="windows a volume: at borders of blocks and jobs, at faces, anywhere")
    side: PositiveInt = Field(64, description="side of a window in px")
    seed: int = Field(0, description="of the windows' positions")


class ExportConfig(Section):
    """`snakemake export`: what the bioimage.io package claims; nothing that is not said here."""

    authors: list[str] = Field([], description="names of those who made the model")
    license: str | None = Field(None, description="SPDX identifier, e.g. CC-BY-4.0")


class Config(Section):
    """Everything a run depends on."""

    results: str = Field("results", description="folder of everything that is written")
    sample: SampleConfig = SampleConfig()
    volumes: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")], VolumeConfig]
    storage: StorageConfig = StorageConfig()
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
                    raise ValueError(f"{key}: no volume is called {name!r}; there are {sorted(self.volumes)}")
        for key in ("train.volumes", "train.validation", "evaluate.volumes", "evaluate.threshold_volumes"):
            for name in self._volume_lists()[key]:
                needed = key != "train.volumes" or self.model.checkpoint is None
                if needed and self.volumes[name].labels is None:
                    raise ValueError(f"{key}: volume {name!r} has no labels; set volumes.{name}.labels")
        for key in ("evaluate.volumes", "evaluate.threshold_volumes"):
            for name in self._volume_lists()[key]:
                if name not in self.predict.volumes:
                    raise ValueError(f"{key}: volume {name!r} is not in predict.volumes {self.predict.volumes}")
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
            if share > 0 and self.model.dimensions == 2:
                raise ValueError(
                    f"train.augment.{key} is {share}, but a 2-D network never sees two sections: "
                    "set it to 0, or model.dimensions to 3"
                )
        return self

    @model_validator(mode="after")
    def _tiles_fit(self) -> "Config":
        from unet.tiling import TileSizeError, tile_geometry

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
        """Volumes whose labels become targets: those that are learnt from, and those that are scored."""
        return list(dict.fromkeys([*self.learning_volumes, *self.evaluate.volumes]))

    @property
    def used_volumes(self) -> list[str]:
        """Volumes that some rule needs, in the order of the configuration."""
        needed = {name for names in self._volume_lists().values() for name in names}
        return [name for name in self.volumes if name in needed]


def load_config(values: Mapping[str, Any]) -> Config:
    """The checked configuration.

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
        return Config.model_validate(dict(values))
    except ValidationError as error:
        raise ConfigError(explain(error)) from None


def explain(error: ValidationError) -> str:
    """Every problem of a configuration in one line each: key, value, what is allowed."""
    return "\n".join(_explain_one(dict(problem)) for problem in error.errors())


def _explain_one(problem: dict[str, Any]) -> str:
    # A union such as `int | "auto"` adds its branch's name to the location: not a key, so left out.
    branches = {"int", "float", "constrained-int", "constrained-float", "list[int]", "[key]"}
    path = [str(part) for part in problem["loc"] if not _is_branch(str(part), branches)]
    key = ".".join(path) or "configuration"
    if problem["type"] == "extra_forbidden":
        return f"{key}: unknown key; {_allowed_keys(path[:-1])}"
    if problem["type"] == "missing" and isinstance(problem["loc"][-1], int):
        return f"{'.'.join(path[:-1])}: got {problem['input']!r}; number {problem['loc'][-1] + 1} is missing"
    if problem["type"] == "missing":
        return f"{key}: missing; it has no default"
    message = str(problem["msg"]).removeprefix("Value error, ")
    if problem["type"] == "value_error":
        return message if not path else f"{key}: {message}"
    return f"{key}: got {problem['input']!r}; {message[0].lower() + message[1:]}"


def _is_branch(part: str, branches: set[str]) -> bool:
    return part in branches or part.startswith(("tuple[", "literal[", "constrained", "function-"))


def _allowed_keys(path: list[str]) -> str:
    section: Any = VolumeConfig if path[:1] == ["volumes"] else Config
    for part in path if section is Config else []:
        section = section.model_fields[part].annotation
    return f"allowed here: {', '.join(section.model_fields)}"


def source_files(config: Config) -> dict[str, Path]:
    """Every input file or folder by its configuration key; `file.h5:/dataset` names the file."""
    return {key: Path(file_of(given)) for key, given in _inputs(config).items() if not is_address(given)}


def source_addresses(config: Config) -> dict[str, str]:
    """Every input behind an address by its configuration key."""
    return {key: given for key, given in _inputs(config).items() if is_address(given)}


def _inputs(config: Config) -> dict[str, str]:
    addresses = {
        f"volumes.{name}.{key}": getattr(config.volumes[name], key)
        for name in config.used_volumes
        for key in ("raw", "labels", "mask")
    } | {
        f"volumes.{name}.compare.{peer}": address
        for name in config.evaluate.volumes
        for peer, address in config.volumes[name].compare.items()
    }
    addresses["model.checkpoint"] = config.model.checkpoint
    inputs: dict[str, str] = {}
    for key, value in addresses.items():
        if isinstance(value, list):
            inputs |= {f"{key}.{number}": address for number, address in enumerate(value)}
        elif value is not None:
            inputs[key] = value
    return inputs


def file_of(address: str) -> str:
    """The file or folder of an address.

    >>> file_of("data/a.h5:/volumes/raw"), file_of("data/a.tif")
    ('data/a.h5', 'data/a.tif')
    """
    return address.partition(":/")[0]
