"""Section `train`: the training of the network, and the augmentation of its patches."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from unet.config.section import NonNegativeFloat, PositiveFloat, PositiveInt, Probability, Section, Triple


class AugmentConfig(Section):
    """Random changes of each training patch. Geometric changes move image, targets and weights together.

    Intensities are given in standard deviations of the volume, after its normalisation.
    """

    flips: bool = Field(True, description="Whether patches are mirrored along y and x at random.")
    rotation: Literal["none", "right", "any"] = Field(
        "any",
        description="Random rotation within the section. `none`: no rotation. `right`: by a multiple of 90 degrees. "
        "`any`: by any angle.",
    )
    elastic_px: NonNegativeFloat = Field(
        10.0, description="Standard deviation in px of the random displacements on the coarse grid; 0 deforms no patch."
    )
    elastic_grid: Annotated[int, Field(ge=2)] = Field(
        3,
        description="Points of the coarse grid along each side of the patch. Displacements between them are "
        "interpolated.",
    )
    elastic_probability: Probability = Field(1.0, description="Share of the patches that are deformed.")
    brightness: NonNegativeFloat = Field(
        0.2, description="Standard deviation of a random offset that is added to the intensities of a patch."
    )
    contrast: NonNegativeFloat = Field(
        0.2, description="Standard deviation of log2 of a random gain that multiplies the intensities of a patch."
    )
    noise: NonNegativeFloat = Field(
        0.1, description="Largest standard deviation of the Gaussian noise that is added to the intensities of a patch."
    )
    contrast_shift: Probability = Field(
        0.0,
        description="Share of the sections that get a gain and an offset of their own, as badly stained sections have "
        "them.",
    )
    contrast_shift_std: NonNegativeFloat = Field(
        0.7,
        description="Standard deviation of log2 of the gain, and of the offset, of such a section.",
    )
    missing_section: Probability = Field(
        0.0,
        description="Share of the sections that are replaced by one intensity, so that the network learns to bridge "
        "blank sections. Only for 3-D networks.",
    )
    misalignment: Probability = Field(
        0.0,
        description="Share of the sections at which the rest of the patch jumps sideways, as in a badly aligned "
        "volume. Only for 3-D networks.",
    )
    misalignment_px: NonNegativeFloat = Field(
        8.0, description="Standard deviation in px of such a jump, along y and along x."
    )


class TrainConfig(Section):
    """Training: volumes, length, optimiser, augmentation and what is written meanwhile."""

    volumes: list[str] = Field(
        ["train"], description="Names of the volumes to train on. Each has labels of the same classes."
    )
    volume_weights: dict[str, PositiveFloat] = Field(
        default_factory=dict,
        description="Factors by the name of a volume: how much more often than by its size a labelled voxel of that "
        "volume is drawn. A volume that is not named has factor 1.",
    )
    validation: list[str] = Field(
        [],
        description="Names of labelled volumes that choose the best weights in the course of the training. Without "
        "any, the weights of the last step are kept.",
    )
    steps: PositiveInt = Field(20_000, description="Number of optimiser steps.")
    tile: PositiveInt | Triple = Field(
        572,
        description="Input size of a training patch in px: one side, or the shape (z, y, x). Sizes that do not fit the "
        "network are refused with the nearest sizes that do.",
    )
    batch: PositiveInt = Field(
        1,
        description="Patches per step and GPU. On a CPU each patch is computed by a thread of its own, with its own "
        "statistics of batch normalisation: a batch of at least the number of cores uses them best.",
    )
    gpus: PositiveInt = Field(
        1,
        description="GPUs of the training job; without a GPU, processes on the CPU. Each takes `batch` patches per "
        "step.",
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="Number format of the convolutions; weights are always float32. `auto`: bfloat16 on a GPU that "
        "supports it, else float32. `float32` and `bfloat16`: always that format.",
    )
    compile: Literal["auto", "always", "never"] = Field(
        "auto",
        description="Use of `torch.compile`. `auto`: on a GPU, if there are enough steps to repay the compilation. "
        "`always` and `never`: on any device.",
    )
    optimizer: Literal["sgd", "adamw"] = Field(
        "sgd", description="`sgd`: stochastic gradient descent with momentum, as in the paper. `adamw`: AdamW."
    )
    learning_rate: PositiveFloat = Field(
        0.001, description="Learning rate after the warm-up, which is the highest one. The paper gives none."
    )
    momentum: Annotated[float, Field(ge=0, lt=1)] = Field(0.99, description="Momentum of `sgd`, as in the paper.")
    weight_decay: NonNegativeFloat = Field(0.0, description="Weight decay of the optimiser.")
    schedule: Literal["constant", "cosine"] = Field(
        "cosine",
        description="Learning rate after the warm-up. `constant`: it stays. `cosine`: it falls to 0 at the last step "
        "along half a cosine.",
    )
    warmup_steps: Annotated[int, Field(ge=0)] = Field(
        100, description="Number of steps at the start in which the learning rate rises linearly."
    )
    clip_norm: PositiveFloat | None = Field(
        1.0,
        description="Largest norm of the gradient; a longer gradient is scaled down. With null no gradient is clipped.",
    )
    spike_factor: Annotated[float, Field(gt=1)] | None = Field(
        20.0,
        description="Jump of the loss that stops the training. The training stops if the mean of the last 40 losses is "
        "this many times the usual loss, and their median is the square root of this number times the usual loss. The "
        "usual loss is the mean of the 200 losses before, without the highest 5 %. With null the training never stops. "
        "After a change of this key it continues from its state.",
    )
    seed: int = Field(
        0,
        description="Seed of the initial weights and of all random draws. On a CPU the same seed gives the same model, "
        "bit for bit, with the same type of processor and package versions, for any number of threads up to `batch`. "
        "More threads than patches share their sums, so their number changes the last bits. Rule `train` has 8 "
        "threads, or `--cores` if that is less. `--set-threads train=1` makes the model independent of `--cores`.",
    )
    augment: AugmentConfig = Field(AugmentConfig(), description="Random changes of the training patches.")
    checkpoint_minutes: PositiveFloat = Field(
        5.0,
        description="Minutes between two saves of the training state. A killed training continues from the last save.",
    )
    log_steps: PositiveInt = Field(20, description="Steps between two lines of the learning curve, `training.jsonl`.")
    validation_steps: PositiveInt = Field(200, description="Steps between two scores on the validation volumes.")
    validation_crops: PositiveInt = Field(
        4, description="Number of crops of 512 x 512 px that are predicted and scored at each validation."
    )
    patience: PositiveInt | None = Field(
        None,
        description="Early stopping: number of validations without a better score after which the training ends. With "
        "null all steps are made.",
    )
    tensorboard: bool = Field(
        False, description="Whether TensorBoard event files are written as well. Needs the extra `tensorboard`."
    )

    @model_validator(mode="after")
    def _patience_has_a_score(self) -> "TrainConfig":
        if self.patience is not None and not self.validation:
            raise ValueError(
                f"patience is {self.patience}, but has no effect without train.validation, whose scores it counts: "
                "name a volume there, or remove patience"
            )
        return self
