"""Section `plan`: what the cost estimate assumes."""

from typing import Annotated

from pydantic import Field

from unet.config.section import NonNegativeFloat, PositiveFloat, PositiveInt, Section


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
    max_files: PositiveInt | None = Field(None, description="quota of files; null = what the file system has free")
