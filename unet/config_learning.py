"""Sections of the configuration: what is learnt from, and how."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from unet.annotation import IGNORE, class_names
from unet.storage.address import checked_address, is_address
from unet.storage.ngff import implausible_voxels

NonNegativeFloat = Annotated[float, Field(ge=0)]
PositiveInt = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
Probability = Annotated[float, Field(ge=0, le=1)]
Percent = Annotated[float, Field(ge=0, le=100)]
OpenProbability = Annotated[float, Field(gt=0, lt=1)]
Precision = Literal["float32", "bfloat16", "float16"]
Triple = tuple[PositiveInt, PositiveInt, PositiveInt]


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


_IGNORE_IN_INTERIOR = "set label_kind: classes, with class_values: {membrane: 0, interior: 255, ignore: <that value>}"


class SampleConfig(Section):
    """The generated sample volume, written to `{results}/sample/raw.tif` and `labels.tif`."""

    sections: Annotated[int, Field(ge=4)] = Field(24, description="number of sections")
    size: Annotated[int, Field(ge=64)] = Field(512, description="side of a section in px")
    seed: int = Field(1, description="the same seed gives the same volume, bit for bit")


class SkeletonsConfig(Section):
    """Skeletons of the true neurons of a volume."""

    files: str = Field(description="an SWC file, or a folder of them; each file is one neuron, whatever its trees")
    unit_nm: PositiveFloat = Field(1.0, description="nm of a unit of their x, y and z; 1000 where they are in µm")

    @field_validator("files")
    @classmethod
    def _no_address(cls, files: str) -> str:
        if is_address(files):
            raise ValueError("skeletons are read from a file system; give a path instead of an address")
        return files


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
    missing_chunks: Literal["read", "error"] = Field(
        "read",
        description="Chunks of raw, labels or mask that a Zarr store or HDF5 dataset does not hold: `read` takes them "
        "as the store's fill value and warns, `error` stops the run.",
    )
    compare: dict[str, str] = Field(
        default_factory=dict,
        description="others' segmentations of the same voxels, name -> file, scored beside ours; 0 = they say nothing",
    )
    skeletons: SkeletonsConfig | None = Field(
        None, description="of the true neurons; the expected run length is scored too"
    )

    label_check: Literal["stop", "warn"] = Field(
        "stop",
        description="What happens before training and scoring where the labels, or grey values that are all equal, can "
        "hardly be right: stop the run | warn only.",
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
        if self.label_kind != "instances" and self.ignore_id is not None:
            instead = "list it in class_values under ignore" if self.label_kind == "classes" else _IGNORE_IN_INTERIOR
            raise ValueError(
                f"ignore_id {self.ignore_id} is an id of label_kind: instances, but label_kind is {self.label_kind}: "
                f"remove ignore_id; for a grey value that means not annotated, {instead}"
            )
        return self

    @field_validator("voxel_nm")
    @classmethod
    def _plausible(cls, voxel_nm: tuple[float, float, float] | None) -> tuple[float, float, float] | None:
        if voxel_nm is not None and (problem := implausible_voxels(voxel_nm)):
            raise ValueError(problem)
        return voxel_nm

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


class NormalisationConfig(Section):
    """How grey values are given to the network: (x - centre) / scale, two numbers of each channel of a volume.

    The same rule holds for all volumes. It is kept in the model file, which brings it along as `model.checkpoint`.
    """

    ignore_value: FiniteFloat | Literal["auto", "none"] = Field(
        "auto",
        description="What is left out of the statistics. auto: regions of one value, as the frame of aligned sections "
        "or blank sections; they also count as outside the mask. none: nothing. A number: all voxels of that value.",
    )
    percentiles: tuple[Percent, Percent] | None = Field(
        None,
        description="Two percentiles, such as [1, 99], which become -1 and 1. null: the mean becomes 0, the standard "
        "deviation 1.",
    )
    mean: FiniteFloat | Annotated[list[FiniteFloat], Field(min_length=1)] | None = Field(
        None,
        description="A grey value that becomes 0 in all volumes, or a list with one for each channel; needs `std`.",
    )
    std: PositiveFloat | Annotated[list[PositiveFloat], Field(min_length=1)] | None = Field(
        None, description="Grey values that become a distance of 1 in all volumes, or a list; needs `mean`."
    )

    @model_validator(mode="after")
    def _one_way(self) -> "NormalisationConfig":
        if (self.mean is None) != (self.std is None):
            raise ValueError(f"mean is {self.mean} and std is {self.std}; give both or neither")
        if self.mean is not None and self.percentiles is not None:
            raise ValueError("mean and std are given, and percentiles as well; leave one out")
        if self.percentiles is not None and self.percentiles[0] >= self.percentiles[1]:
            raise ValueError(f"percentiles: got {list(self.percentiles)}; the first has to be the lower one")
        numbers = [len(given) for given in (self.mean, self.std) if isinstance(given, list)]
        if len(set(numbers)) > 1:
            raise ValueError(f"mean has {numbers[0]} numbers and std has {numbers[1]}; one each a channel")
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
        description=(
            "Training stops when the mean of the last 40 losses is this many times that of the 200 before, outliers "
            "left out, and their median its square root; null = never. After a change the training goes on."
        ),
    )
    seed: int = Field(
        0,
        description=(
            "The same seed gives the same model on CPU, bit for bit, with the same threads of rule `train` (8, or "
            "`--cores` where that is less), kind of processor and versions. `--set-threads train=1` gives it for any "
            "`--cores`."
        ),
    )
    augment: AugmentConfig = Field(AugmentConfig(), description="random changes of the patches")
    checkpoint_minutes: PositiveFloat = Field(5.0, description="state written this often, to continue after a kill")
    log_steps: PositiveInt = Field(20, description="steps between two lines of training.jsonl")
    validation_steps: PositiveInt = Field(200, description="steps between two looks at the validation volumes")
    validation_windows: PositiveInt = Field(4, description="windows of 512 x 512 px that a look predicts and scores")
    patience: PositiveInt | None = Field(None, description="looks without a better score that end the training early")
    tensorboard: bool = Field(False, description="TensorBoard event files as well; needs `pip install tensorboard`")

    @model_validator(mode="after")
    def _patience_has_a_score(self) -> "TrainConfig":
        if self.patience is not None and not self.validation:
            raise ValueError(
                f"patience is {self.patience}, but has no effect without train.validation, whose score it waits for: "
                "name a volume there, or remove it"
            )
        return self
