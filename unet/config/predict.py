"""Section `predict`: overlap-tile inference."""

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from unet.config.scheduler_address import checked_scheduler
from unet.config.section import (
    PositiveFloat,
    PositiveInt,
    Precision,
    Section,
    Triple,
)


class PredictConfig(Section):
    """Overlap-tile inference."""

    volumes: list[str] = Field(["train"], description="volumes to predict and segment")
    tile: PositiveInt | Triple | Literal["auto"] = Field(
        "auto", description="input side in px (or z, y, x); auto: the least arithmetic that fits into the free memory"
    )
    batch: PositiveInt | Literal["auto"] = Field(
        "auto", description="tiles that go through the network at once; auto: as many as fill a GPU, on a CPU one"
    )
    test_time_augmentation: Literal["none", "flips", "symmetries", "rotations"] = Field(
        "none",
        description="none | flips: mean over 4 | symmetries: mean over the square's 8 | rotations: mean over 7, as in "
        "the paper",
    )
    precision: Precision | Literal["auto"] = Field(
        "auto", description="of the convolutions; auto: bfloat16 on a GPU that has it, else float32"
    )
    compile: Literal["auto", "always", "never"] = Field(
        "auto", description="torch.compile; auto: on a GPU, where the volume is large enough to pay for it"
    )
    dtype: Literal["uint8", "float32"] = Field("uint8", description="of probability.zarr; uint8 = p x 255 rounded")
    job_voxels: PositiveInt | Literal["auto"] = Field(
        "auto",
        description="voxels of one job, rounded down to whole blocks; auto = 268 million, or more where that would "
        "make more than 1,000 jobs",
    )
    max_blocks_in_flight: Annotated[int, Field(ge=1)] = Field(
        4, description="of a process at once: reading, computing and writing overlap; bounds its memory"
    )
    block_timeout_minutes: PositiveFloat = Field(
        60, description="after which a block counts as hanging, is tried elsewhere, then reported"
    )
    workers: Literal["local", "slurm"] = Field(
        "local",
        description="local: each job predicts its block range itself | slurm: on workers that are SLURM jobs, as "
        "section slurm says",
    )
    scheduler: str | None = Field(
        None,
        description=(
            "Address of a dask scheduler whose workers predict, e.g. tls://node1:8786 with the certificates of dask's "
            "own configuration (tcp:// on this machine alone, see docs/how-to/slurm.md); null: as `workers` says."
        ),
    )
    dashboard: bool = Field(
        True,
        description=(
            "Whether dask's dashboard runs, for the machine of the job alone; its address is in the log. A scheduler "
            "that is given (`scheduler`) has its own. It needs the extra `dashboard`."
        ),
    )

    @field_validator("scheduler")
    @classmethod
    def _safe_scheduler(cls, address: str | None) -> str | None:
        return None if address is None else checked_scheduler(address)

    @model_validator(mode="after")
    def _one_place(self) -> "PredictConfig":
        if self.workers == "slurm" and self.scheduler is not None:
            raise ValueError(
                f"workers: slurm and scheduler: {self.scheduler} are two places to predict; remove one of them"
            )
        return self
