"""Section `model`: the network."""

from typing import Literal

from pydantic import Field, model_validator

from unet.config.section import NonNegativeFloat, PositiveInt, Section, Triple


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
    voxel_size_tolerance: NonNegativeFloat = Field(
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
