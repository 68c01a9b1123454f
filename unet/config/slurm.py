"""Section `slurm`: the workers of `predict.workers: slurm`."""

from typing import Annotated

from pydantic import Field, model_validator

from unet.config.section import NonNegativeFloat, PositiveFloat, PositiveInt, Section


class SlurmConfig(Section):
    """Workers of a prediction with `predict.workers: slurm`. Each worker is a SLURM job of its own."""

    workers: PositiveInt = Field(8, description="Number of workers at once, per prediction job.")
    partition: str | None = Field(
        None, description="SLURM partition of the workers. With null it is the cluster's default."
    )
    account: str | None = Field(
        None, description="SLURM account that is charged. With null it is the user's default account."
    )
    gpus: Annotated[int, Field(ge=0)] = Field(
        1, description="GPUs per worker. A worker without a GPU (0) predicts on its cores."
    )
    gpu_model: str | None = Field(
        None, description="Type of GPU as `sinfo -o %G` prints it, such as a100. With null any type is taken."
    )
    cores: PositiveInt = Field(4, description="CPU cores per worker.")
    memory_mb: PositiveInt = Field(16_000, description="Memory per worker in MB.")
    time_limit_minutes: PositiveFloat = Field(240, description="Time limit of a worker's SLURM job in minutes.")
    lifetime_margin_minutes: PositiveFloat = Field(
        15,
        description="Minutes before its time limit at which a worker stops and is replaced. The margin has to be "
        "longer than the prediction of a block takes.",
    )
    lifetime_stagger_minutes: NonNegativeFloat = Field(
        10,
        description="Random spread of that moment in minutes: a worker stops up to twice as much earlier, so that not "
        "all workers stop at once.",
    )
    interface: str | None = Field(
        None,
        description="Network interface on which workers reach the prediction job, such as ib0. With null dask chooses "
        "one.",
    )
    options: list[str] = Field([], description="Further options of `sbatch`, such as `--constraint=ssd`.")

    @model_validator(mode="after")
    def _lifetime_is_positive(self) -> "SlurmConfig":
        left = self.time_limit_minutes - self.lifetime_margin_minutes - 2 * self.lifetime_stagger_minutes
        if left <= 0:
            raise ValueError(
                f"a worker would stop at once: time_limit_minutes {self.time_limit_minutes:g} - "
                f"lifetime_margin_minutes {self.lifetime_margin_minutes:g} - 2 x lifetime_stagger_minutes "
                f"{self.lifetime_stagger_minutes:g} is {left:g} min: "
                "raise time_limit_minutes, or lower the other two"
            )
        return self
