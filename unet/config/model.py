"""Section `model`: the architecture of the network, or a trained model."""

from collections.abc import Sequence
from typing import Literal

from pydantic import Field, model_validator

from unet.config.section import NonNegativeFloat, PositiveInt, Section, Triple
from unet.geometry.offsets import ISOTROPIC_BELOW, offsets_in_voxels


class ModelConfig(Section):
    """Architecture of the network. The defaults are those of the paper (Ronneberger, Fischer, Brox 2015)."""

    dimensions: Literal[2, 3] = Field(
        2,
        description="Dimensions of the convolutions. 2: each section is predicted alone, as in the paper. 3: the "
        "network sees neighbouring sections.",
    )
    output: Literal["classes", "affinities"] = Field(
        "classes",
        description="`classes`: the probability of each class per voxel, as in the paper. `affinities`: the "
        "probability that a voxel and another one at an offset belong to one object, one channel per offset; needs "
        "instance labels.",
    )
    offsets: list[tuple[float, float, float]] | Literal["auto"] = Field(
        "auto",
        description="For output `affinities`: offsets (z, y, x) between the two voxels of a pair, in `offset_unit`. "
        "The first number that is not 0 is positive. `auto`: nearest neighbours and longer offsets, chosen by the "
        "voxel size; for a 2-D network those within the section.",
    )
    offset_unit: Literal["voxel", "nm"] = Field(
        "voxel", description="Unit of `offsets`. Offsets in nm are rounded to whole voxels, at least one."
    )
    context_sections: int = Field(
        0,
        ge=0,
        le=8,
        description="For a 2-D network: number of neighbouring sections on each side that it sees as further input "
        "channels. At the volume's faces they are mirrored.",
    )
    depth: int = Field(
        5, ge=2, le=6, description="Number of resolution levels. The network pools once less: 4 times at depth 5."
    )
    base_channels: PositiveInt = Field(
        64, description="Feature channels of the first level. Each further level has twice as many."
    )
    architecture: Literal["unet", "fcn8s"] = Field(
        "unet",
        description="`unet`: the U-Net of the paper. `fcn8s`: the network of Long, Shelhamer and Darrell (2015), for "
        "comparison.",
    )
    convolution: Literal["valid", "same"] = Field(
        "valid",
        description="`valid`: unpadded convolutions, as in the paper, so the output is smaller than the input. `same`: "
        "zero-padded convolutions, so output and input have one size.",
    )
    upsampling: Literal["transposed", "bilinear"] = Field(
        "transposed",
        description="`transposed`: learnt up-convolutions, as in the paper. `bilinear`: interpolation without weights.",
    )
    skip: Literal["concatenate", "add"] = Field(
        "concatenate",
        description="How the expanding path takes in features of the contracting path. `concatenate`: as further "
        "channels, as in the paper. `add`: summed channel by channel.",
    )
    normalisation: Literal["none", "batch"] = Field(
        "none",
        description="Normalisation of features after each convolution. `none`: none, as in the paper. `batch`: batch "
        "normalisation.",
    )
    block: Literal["plain", "residual"] = Field(
        "plain",
        description="The two convolutions of a level. `plain`: one after the other, as in the paper. `residual`: the "
        "input of the two, cropped and brought to the same channels, is added to their result.",
    )
    dropout: float = Field(
        0.5,
        ge=0,
        lt=1,
        description="Share of features that training drops in the two deepest levels of the contracting path.",
    )
    pooling: list[Triple] | Literal["auto"] | None = Field(
        None,
        description="Factors (z, y, x) of each pooling, 1 or 2 each, from the finest level on; for thick sections the "
        "first may be [1, 2, 2]. `auto`: chosen by the voxel size, and so are `kernels` that are null; an axis is not "
        "pooled while its voxels are twice as long as the shortest side or longer. With null every pooling halves "
        "every axis of the network.",
    )
    kernels: list[Triple] | None = Field(
        None,
        description="Sizes (z, y, x) of the convolutions of each level, 1 or 3 each, from the finest level on, such as "
        "[1, 3, 3] where sections are thick. With null they are 3 along every axis of the network.",
    )
    checkpoint: str | None = Field(
        None,
        description="Path of a trained `model.pt`, which is used instead of training one. With null a model is "
        "trained.",
    )
    voxel_size_tolerance: NonNegativeFloat = Field(
        0.1,
        description="Largest relative difference between the voxel size of a volume and the voxel size that the model "
        "was trained on. A larger difference stops the run.",
    )

    @model_validator(mode="after")
    def _offsets_are_of_affinities(self) -> "ModelConfig":
        if self.output == "classes" and (self.offsets != "auto" or self.offset_unit != "voxel"):
            raise ValueError(
                "offsets and offset_unit have no effect with output: classes: remove them, or set output: affinities"
            )
        if self.output == "affinities" and self.offsets != "auto":
            # sides of 1 nm: whether offsets are offsets at all depends on no voxel size
            offsets_in_voxels(self.offsets, self.offset_unit, (1, 1, 1))
        across = [list(one) for one in self.offsets if one[0]] if self.offsets != "auto" else []
        if across and self.dimensions == 2:
            raise ValueError(
                f"offset {across[0]} leads to another section, which a 2-D network does not see: remove it, or set "
                "dimensions: 3"
            )
        return self

    @model_validator(mode="after")
    def _pooling_fits(self) -> "ModelConfig":
        if self.architecture == "fcn8s" and self.depth < 3:
            raise ValueError(f"fcn8s fuses the three deepest levels: depth must be >= 3, got {self.depth}")
        if self.pooling is not None and self.pooling != "auto":
            if len(self.pooling) != self.depth - 1:
                raise ValueError(
                    f"pooling has {len(self.pooling)} entries; depth {self.depth} has {self.depth - 1} poolings"
                )
            if any(factor not in (1, 2) for level in self.pooling for factor in level):
                raise ValueError(f"pooling factors are 1 or 2, got {[list(level) for level in self.pooling]}")
            if self.dimensions == 2 and any(level[0] != 1 for level in self.pooling):
                raise ValueError("a 2-D network does not pool along z: the first factor of each pooling is 1")
        return self

    @model_validator(mode="after")
    def _kernels_fit(self) -> "ModelConfig":
        if self.kernels is not None:
            if len(self.kernels) != self.depth:
                raise ValueError(f"kernels has {len(self.kernels)} entries; depth {self.depth} has {self.depth} levels")
            if any(size not in (1, 3) for level in self.kernels for size in level):
                raise ValueError(f"sizes of kernels are 1 or 3, got {[list(level) for level in self.kernels]}")
            if self.dimensions == 2 and any(level[0] != 1 for level in self.kernels):
                raise ValueError("a 2-D network does not convolve along z: the first size of each kernel is 1")
            if any(1 in level[1:] for level in self.kernels):
                raise ValueError(f"sizes of kernels along y and x are 3, got {[list(level) for level in self.kernels]}")
        if self.context_sections and self.dimensions == 3:
            raise ValueError(
                f"context_sections is {self.context_sections}, but a 3-D network sees neighbouring sections anyway: "
                "remove it, or set dimensions: 2"
            )
        return self

    @property
    def sections(self) -> int:
        """Return the number of sections that a 2-D network sees at once: the predicted one and its context."""
        return 2 * self.context_sections + 1

    @property
    def sees_sections(self) -> bool:
        """Return whether the network sees more than one section at a time."""
        return self.dimensions == 3 or self.context_sections > 0

    def for_voxels(self, voxel_size_nm: Sequence[float]) -> "ModelConfig":
        """Return the configuration with poolings and kernels in place of `pooling: auto`.

        At each level, an axis is pooled and convolved where its voxels are less than `ISOTROPIC_BELOW` times as long as
        the shortest side. The deepest level is convolved along every axis, so that the network is a 3-D one.

        Source: Isensee et al. 2021 (nnU-Net), doi:10.1038/s41592-020-01008-z.

        >>> model = ModelConfig(dimensions=3, depth=4, pooling="auto")
        >>> model.for_voxels((40, 8, 8)).pooling
        [(1, 2, 2), (1, 2, 2), (2, 2, 2)]
        >>> model.for_voxels((40, 8, 8)).kernels
        [(1, 3, 3), (1, 3, 3), (3, 3, 3), (3, 3, 3)]
        """
        if self.pooling != "auto":
            return self
        if self.dimensions == 2:
            return self.model_copy(update={"pooling": None})
        sides, pooling, kernels = list(voxel_size_nm), list[Triple](), list[Triple]()
        for level in range(self.depth):
            fine = [side < ISOTROPIC_BELOW * min(sides) for side in sides]
            deepest = level == self.depth - 1
            # within the section every kernel is 3 x 3
            kernels.append((3 if fine[0] or deepest else 1, 3, 3))
            pooling.append((2 if fine[0] else 1, 2 if fine[1] else 1, 2 if fine[2] else 1))
            sides = [side * factor for side, factor in zip(sides, pooling[-1], strict=True)]
        return self.model_copy(update={"pooling": pooling[:-1], "kernels": self.kernels or kernels})
