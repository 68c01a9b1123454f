"""Section `train`: the training of the network, and the augmentation of its patches."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from unet.config.section import NonNegativeFloat, PositiveFloat, PositiveInt, Probability, Section, Seed, Triple
from unet.geometry.training_tile import LossRegion


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
    symmetries: Literal["none", "flips_3d", "symmetries_3d", "cube"] = Field(
        "none",
        description="Random symmetry of the volume from which a patch is cut, beside `flips` and `rotation`; nothing "
        "is interpolated. `flips_3d`: 8 flips along z, y and x. `symmetries_3d`: quarter turns within the section as "
        "well, 16. `cube`: all 48 symmetries of the cube, for isotropic voxels. All need a 3-D network or context.",
    )
    elastic_3d: tuple[NonNegativeFloat, NonNegativeFloat, NonNegativeFloat] = Field(
        (0.0, 0.0, 0.0),
        description="Standard deviation (z, y, x) in voxels of random displacements on a coarse 3-D grid that spans "
        "the patch; 0 deforms nothing. Intensities are interpolated linearly; it goes best with `elastic_px: 0` and "
        "`rotation: none` or `right`.",
    )
    elastic_3d_grid: Annotated[int, Field(ge=2)] = Field(
        5, description="Points of that grid along each side of the patch."
    )
    elastic_3d_probability: Probability = Field(1.0, description="Share of the patches that are deformed in 3-D.")
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
    jitter_px: NonNegativeFloat = Field(
        0.0,
        description="Standard deviation in px of a displacement of each section, with its targets, as a rough "
        "alignment leaves it. Only for networks that see several sections.",
    )
    blur_px: NonNegativeFloat = Field(
        0.0, description="Largest standard deviation in px of a Gaussian blur within the sections of a patch."
    )
    blur_probability: Probability = Field(0.5, description="Share of the patches that are blurred.")
    partial_section: Probability = Field(
        0.0,
        description="Share of the sections that are blank on one side of a random line. A section has one at most of "
        "the defects `partial_section`, `blurred_section` and `shifted_section`; the targets stay.",
    )
    blurred_section: Probability = Field(0.0, description="Share of the sections that are blurred by themselves.")
    blurred_section_px: Annotated[float, Field(ge=0.5)] = Field(
        3.0, description="Largest standard deviation in px of the blur of such a section; the smallest is 0.5."
    )
    shifted_section: Probability = Field(
        0.0, description="Share of the sections whose intensities are displaced by themselves."
    )
    shifted_section_px: NonNegativeFloat = Field(
        6.0, description="Standard deviation in px of such a displacement, along y and along x."
    )

    @model_validator(mode="after")
    def _one_defect_per_section(self) -> "AugmentConfig":
        total = self.partial_section + self.blurred_section + self.shifted_section
        if total > 1:
            raise ValueError(
                f"partial_section, blurred_section and shifted_section are {total:g} together, but a section has one "
                "of these defects at most: their sum is at most 1"
            )
        return self


class ShapeDescriptorsConfig(Section):
    """Local shape descriptors (Sheridan et al. 2022): size, position and extent of the object around each voxel.

    An auxiliary output that is learnt beside affinities and not stored.
    """

    sigma_nm: PositiveFloat = Field(
        80.0,
        description="Standard deviation in nm of the Gaussian neighbourhood in which an object is described, about the "
        "radius of thin processes. The neighbourhood ends at 3 standard deviations. Its cost grows with its volume.",
    )
    weight: PositiveFloat = Field(
        1.0, description="Factor of their mean squared error, which is added to the loss of affinities."
    )


class AffinitiesConfig(Section):
    """Training of a network with `model.output: affinities`: its targets and its loss."""

    erode_labels: Annotated[int, Field(ge=0)] = Field(
        1,
        description="Width in voxels, on each side of a contact, of a border between touching bodies. In the border "
        "the affinities of nearest neighbours are 0. It is drawn in 3-D for voxels that are nearly cubes and a 3-D "
        "network, else within the section. Longer offsets are not affected.",
    )
    class_balance: bool = Field(
        True,
        description="Whether pairs of one object and pairs of two weigh alike in the loss, in each channel by itself.",
    )
    smallest_share: Annotated[float, Field(gt=0, le=0.5)] = Field(
        0.05,
        description="For `class_balance`: share of a channel's pairs that a class is taken to have at least. With 0.05 "
        "no pair has more than 10 times the usual weight.",
    )
    border_weight: bool = Field(
        False,
        description="Whether the loss weighs a pair by equation 2 of the paper, the mean of its two voxels, with "
        "`weights.w0` and `weights.sigma`.",
    )
    shape_descriptors: ShapeDescriptorsConfig | None = Field(
        None,
        description="Local shape descriptors that the network learns as well, so that it uses more of the context. "
        "`model.pt` and predictions have none. With null none are learnt, with `{}` those of the defaults.",
    )

    @model_validator(mode="after")
    def _share_is_used(self) -> "AffinitiesConfig":
        if not self.class_balance and self.smallest_share != 0.05:
            raise ValueError(
                f"smallest_share is {self.smallest_share}, but has no effect with class_balance: false: remove it, or "
                "set class_balance: true"
            )
        return self

    @property
    def bound(self) -> float | None:
        """Return the smallest share of a class; None where classes are not balanced."""
        return self.smallest_share if self.class_balance else None


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
    held_back: Annotated[float, Field(ge=0, le=0.5)] | Literal["auto"] = Field(
        "auto",
        description="Share of the annotated sections of each training volume from which nothing is learnt. A threshold "
        "set to `auto` is chosen on these sections. They are the last annotated ones; a volume with fewer than 4 holds "
        "none back. `auto`: 0.15 for volumes of `evaluate.threshold_volumes`, else 0.",
    )
    start_from: str | None = Field(
        None,
        description="Path of a trained `model.pt` whose weights the training continues, on the labels of `volumes`. "
        "Section `model` has to describe the same network. The model's own normalisation is used. With null the "
        "weights are drawn at random.",
    )
    steps: PositiveInt = Field(20_000, description="Number of optimiser steps.")
    tile: PositiveInt | Triple = Field(
        572,
        description="Input size of a training patch in px: one side, or the shape (z, y, x). Sizes that do not fit the "
        "network are refused with the nearest sizes that do.",
    )
    loss_region: LossRegion = Field(
        "exact",
        description="Voxels of a tile that count in the loss, for `model.convolution: same`. `exact`: those that no "
        "padding reaches, which are all that a prediction keeps. `tile`: all, as is usual with padded convolutions; "
        "voxels near the border see zeros in place of their surroundings. In 3-D it gives many times as many voxels "
        "per step, and allows small tiles.",
    )
    batch: PositiveInt = Field(
        1,
        description="Patches per step and GPU. On a CPU each patch is computed by a thread of its own: a batch of at "
        "least the number of cores uses them best.",
    )
    gpus: PositiveInt = Field(
        1,
        description="GPUs of the training job; without a GPU, processes on the CPU. Each takes `batch` patches per "
        "step.",
    )
    precision: Literal["auto", "fastest", "float32", "bfloat16"] = Field(
        "auto",
        description="Number format of the convolutions; weights are always float32. `auto`: bfloat16 on a GPU that "
        "supports it, else float32. `fastest`: bfloat16 on a CPU with AMX instructions as well (`lscpu` lists "
        "`amx_bf16`); they double the speed of a 3-D network of 16 channels. `float32` and `bfloat16`: always that "
        "format.",
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
    weight_average: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None,
        description="Decay of an exponential moving average of the weights, such as 0.999. The average is validated "
        "and saved in place of the weights. The decay is lower in the first steps. With null the weights themselves "
        "are.",
    )
    spike_factor: Annotated[float, Field(gt=1)] | None = Field(
        20.0,
        description="Jump of the loss that stops the training, on two conditions. The mean of the last 40 losses is "
        "this many times the usual loss. Their median is the square root of this number times the usual loss. The "
        "usual loss is the mean of the 200 losses before, without the highest 5 %. With null the training never stops. "
        "After a change of this key it continues from its state.",
    )
    seed: Seed = Field(
        0,
        description="Seed of the initial weights and of all random draws. On a CPU the same seed gives the same model, "
        "bit for bit, with the same type of processor and package versions. This holds for any number of threads up "
        "to `batch`, if that is above 1; else their number changes the last bits. Rule `train` has 8 threads, or "
        "`--cores` if that is less. `--set-threads train=1` makes the model independent of `--cores`.",
    )
    augment: AugmentConfig = Field(AugmentConfig(), description="Random changes of the training patches.")
    affinities: AffinitiesConfig = Field(
        AffinitiesConfig(), description="Targets and loss of a network with `model.output: affinities`."
    )
    checkpoint_minutes: PositiveFloat = Field(
        5.0,
        description="Minutes between two saves of the training state. A killed training continues from the last save.",
    )
    log_steps: PositiveInt = Field(20, description="Steps between two lines of the learning curve, `training.jsonl`.")
    validation_steps: PositiveInt = Field(200, description="Steps between two scores on the validation volumes.")
    validation_crops: PositiveInt = Field(
        4,
        description="Number of crops of 512 x 512 px that are predicted and scored at each validation. For "
        "affinities of a 3-D network they have 256 x 256 px.",
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
