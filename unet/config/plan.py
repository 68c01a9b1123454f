"""Section `plan`: what the cost estimate assumes."""

from typing import Annotated

from pydantic import Field

from unet.config.section import NonNegativeFloat, PositiveFloat, PositiveInt, Section


class PlanConfig(Section):
    """Resources and prices that `snakemake plan` assumes for its estimate. No key of this section changes a result."""

    cores: PositiveInt | None = Field(
        None, description="CPU cores of all machines together. With null the cores of this machine are counted."
    )
    gpus: Annotated[int, Field(ge=0)] | None = Field(
        None, description="GPUs of all machines together. With null the GPUs of this machine are counted."
    )
    gpu_flops: PositiveFloat | None = Field(
        None,
        description="Floating-point operations per second that a GPU reaches in the network, such as 4e13. Set it to "
        "plan for a GPU that this machine lacks; with null the speed is measured here.",
    )
    gpu_memory_gb: PositiveFloat = Field(
        16, description="Memory in GB of a GPU that this machine lacks. It limits the tile of the estimate."
    )
    price_per_gpu_hour: NonNegativeFloat | None = Field(
        None, description="Price of one hour of a GPU with its cores. With null no cost of GPUs is estimated."
    )
    price_per_core_hour: NonNegativeFloat | None = Field(
        None, description="Price of one hour of a core without a GPU. With null no cost of cores is estimated."
    )
    currency: str = Field("", description="Currency of the prices, printed beside the cost.")
    max_files: PositiveInt | None = Field(
        None, description="Quota of files. With null it is the number of files that the file system has free."
    )
