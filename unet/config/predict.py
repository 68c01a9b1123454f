"""Section `predict`: overlap-tile prediction."""

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

TestTimeAugmentation = Literal["none", "flips", "symmetries", "flips_3d", "symmetries_3d", "cube", "rotations"]
"""What predictions are averaged over."""


class PredictConfig(Section):
    """Overlap-tile prediction: volumes, tiles, device precision, and the jobs that share the work."""

    volumes: list[str] = Field(["train"], description="Names of the volumes to predict and segment.")
    tile: PositiveInt | Triple | Literal["auto"] = Field(
        "auto",
        description="Input size of a tile in px: one side, or the shape (z, y, x). `auto`: the tile with the least "
        "arithmetic for the volume that fits into the free memory.",
    )
    batch: PositiveInt | Literal["auto"] = Field(
        "auto",
        description="Number of tiles that pass through the network at once. `auto`: as many as keep a GPU busy and fit "
        "into its memory; 1 on a CPU.",
    )
    test_time_augmentation: TestTimeAugmentation = Field(
        "none",
        description="Transformed copies of the input over which probabilities are averaged. `none`: one prediction. "
        "`flips`: 4 mirror images. `symmetries`: all 8 symmetries of the square. `flips_3d` and `symmetries_3d`: these "
        "with the order of the sections reversed as well, 8 and 16 copies. `cube`: all 48 symmetries of the cube, for "
        "isotropic voxels. `rotations`: 7 rotations, as in the paper. The time grows with the number of copies.",
    )
    precision: Precision | Literal["auto", "fastest"] = Field(
        "auto",
        description="Number format of the convolutions. `auto`: bfloat16 on a GPU that supports it, else float32. "
        "`fastest`: bfloat16 on a CPU with AMX instructions as well. "
        "`float32`, `bfloat16` and `float16`: always that format.",
    )
    compile: Literal["auto", "always", "never"] = Field(
        "auto",
        description="Use of `torch.compile`. `auto`: on a GPU, if the volume is large enough to repay the compilation. "
        "`always` and `never`: on any device.",
    )
    dtype: Literal["uint8", "float32"] = Field(
        "uint8",
        description="Type of the stored probabilities. `uint8`: probability x 255, rounded. `float32`: as computed, "
        "four times as large.",
    )
    job_voxels: PositiveInt | Literal["auto"] = Field(
        "auto",
        description="Voxels per job of every blockwise rule, rounded down to whole blocks. `auto`: 268 million, or "
        "more if a rule would otherwise have over 1,000 jobs. Some image files can only be decoded by whole "
        "sections (PNG, TIFF of compressed strips); a job of `ingest` then takes at least a layer of blocks.",
    )
    max_blocks_in_flight: Annotated[int, Field(ge=1)] = Field(
        4,
        description="Largest number of blocks that a process reads, predicts and writes at once. It bounds the memory "
        "of the process.",
    )
    block_timeout_minutes: PositiveFloat = Field(
        60,
        description="Minutes after which a block counts as hanging. It is tried once more on another worker, then the "
        "job fails and names it.",
    )
    workers: Literal["local", "slurm"] = Field(
        "local",
        description="Processes that predict the blocks of a job. `local`: the job itself. `slurm`: dask workers, each "
        "a SLURM job of its own, as section `slurm` describes.",
    )
    scheduler: str | None = Field(
        None,
        description="Address of a dask scheduler whose workers predict, such as tls://node1:8786 with the certificates "
        "of dask's own configuration. Plain tcp:// is for this machine alone (docs/how-to/slurm.md). With null "
        "`workers` decides.",
    )
    dashboard: bool = Field(
        True,
        description="Whether dask's dashboard runs. Only the machine of the job can open it; its address is in the "
        "job's log. A scheduler given by `scheduler` has a dashboard of its own. "
        "It needs the extra `dashboard`.",
    )

    @field_validator("scheduler")
    @classmethod
    def _safe_scheduler(cls, address: str | None) -> str | None:
        return None if address is None else checked_scheduler(address)

    @model_validator(mode="after")
    def _one_way_to_predict(self) -> "PredictConfig":
        if self.workers == "slurm" and self.scheduler is not None:
            raise ValueError(
                f"workers: slurm and scheduler: {self.scheduler} are two ways to predict; remove one of them"
            )
        return self
