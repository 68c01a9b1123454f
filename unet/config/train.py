"""Section `train`: the training and its augmentation."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from unet.config.section import NonNegativeFloat, PositiveFloat, PositiveInt, Probability, Section, Triple


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
    validation_crops: PositiveInt = Field(4, description="windows of 512 x 512 px that a look predicts and scores")
    patience: PositiveInt | None = Field(None, description="looks without a better score that end the training early")
    tensorboard: bool = Field(False, description="TensorBoard event files as well; needs the extra `tensorboard`")

    @model_validator(mode="after")
    def _patience_has_a_score(self) -> "TrainConfig":
        if self.patience is not None and not self.validation:
            raise ValueError(
                f"patience is {self.patience}, but has no effect without train.validation, whose score it waits for: "
                "name a volume there, or remove it"
            )
        return self
