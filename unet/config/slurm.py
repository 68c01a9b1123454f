"""Section `slurm`: the workers of `predict.workers: slurm`."""

from typing import Annotated

from pydantic import Field, model_validator

from unet.config.section import NonNegativeFloat, PositiveFloat, PositiveInt, Section


class SlurmConfig(Section):
    """Workers of a prediction with `predict.workers: slurm`, each a SLURM job of its own."""

    workers: PositiveInt = Field(8, description="at once, for each prediction job")
    partition: str | None = Field(None, description="SLURM partition; null = the cluster's default")
    account: str | None = Field(None, description="account that pays; null = the user's default")
    gpus: Annotated[int, Field(ge=0)] = Field(1, description="GPUs of a worker; 0: it computes on its cores")
    gpu_model: str | None = Field(None, description="type of GPU as `sinfo -o %G` calls it, e.g. a100; null = any")
    cores: PositiveInt = Field(4, description="cores of a worker")
    memory_mb: PositiveInt = Field(16_000, description="memory of a worker")
    time_limit_minutes: PositiveFloat = Field(240, description="of a worker's job")
    lifetime_margin_minutes: PositiveFloat = Field(
        15, description="a worker leaves so long before its time limit, and is replaced: more than a block takes"
    )
    lifetime_stagger_minutes: NonNegativeFloat = Field(
        10, description="up to twice as much earlier, by chance, so that not all leave at once"
    )
    interface: str | None = Field(None, description="network on which workers find the job, e.g. ib0")
    options: list[str] = Field([], description="further options of sbatch, e.g. --constraint=ssd")

    @model_validator(mode="after")
    def _stays_for_a_while(self) -> "SlurmConfig":
        left = self.time_limit_minutes - self.lifetime_margin_minutes - 2 * self.lifetime_stagger_minutes
        if left <= 0:
            raise ValueError(
                f"a worker would leave at once: time_limit_minutes {self.time_limit_minutes:g} - "
                f"lifetime_margin_minutes {self.lifetime_margin_minutes:g} - 2 x lifetime_stagger_minutes "
                f"{self.lifetime_stagger_minutes:g} is {left:g} min: "
                "raise the limit, or lower the others"
            )
        return self
