"""Sections of the configuration: what is done with the model, and where."""

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from unet.config_learning import (
    NonNegativeFloat,
    OpenProbability,
    PositiveFloat,
    PositiveInt,
    Precision,
    Probability,
    Section,
    Triple,
)
from unet.dask_security import checked_scheduler


class PredictConfig(Section):
    """Overlap-tile inference."""

    volumes: list[str] = Field(["train"], description="volumes to predict and segment")
    tile: PositiveInt | Triple | Literal["auto"] = Field(
        "auto", description="input side in px (or z, y, x); auto: the least arithmetic that fits into the free memory"
    )
    batch: PositiveInt | Literal["auto"] = Field(
        "auto", description="tiles that go through the network at once; auto: as many as fill a GPU, on a CPU one"
    )
    average: Literal["none", "flips", "symmetries", "rotations"] = Field(
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
    shard_voxels: PositiveInt | Literal["auto"] = Field(
        "auto",
        description="voxels of one job, rounded down to whole blocks; auto = 268 million, or more where that would "
        "make more than 1,000 jobs",
    )
    blocks_in_flight: Annotated[int, Field(ge=1)] = Field(
        4, description="of a process at once: reading, computing and writing overlap; bounds its memory"
    )
    block_minutes: PositiveFloat = Field(
        60, description="after which a block counts as hanging, is tried elsewhere, then reported"
    )
    dask: Literal["job", "slurm"] = Field(
        "job",
        description="job: each job predicts its shard itself | slurm: on workers, SLURM jobs as section slurm says",
    )
    scheduler: str | None = Field(
        None,
        description=(
            "Address of a dask scheduler whose workers predict, e.g. tls://node1:8786 with the certificates of dask's "
            "own configuration (tcp:// on this machine alone, see docs/slurm.md); null: as `dask` says."
        ),
    )
    dashboard: bool = Field(
        True,
        description="Whether dask's dashboard runs, for the machine of the job alone; its address is in the log.",
    )

    @field_validator("scheduler")
    @classmethod
    def _safe_scheduler(cls, address: str | None) -> str | None:
        return None if address is None else checked_scheduler(address)

    @model_validator(mode="after")
    def _one_place(self) -> "PredictConfig":
        if self.dask == "slurm" and self.scheduler is not None:
            raise ValueError(
                f"dask: slurm and scheduler: {self.scheduler} are two places to predict; remove one of them"
            )
        return self


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
    most_files: PositiveInt | None = Field(None, description="quota of files; null = what the file system has free")


class SlurmConfig(Section):
    """Workers of a prediction with `predict.dask: slurm`, each a SLURM job of its own."""

    workers: PositiveInt = Field(8, description="at once, for each prediction job")
    partition: str | None = Field(None, description="SLURM partition; null = the cluster's default")
    account: str | None = Field(None, description="account that pays; null = the user's default")
    gpus: Annotated[int, Field(ge=0)] = Field(1, description="GPUs of a worker; 0: it computes on its cores")
    gpu_model: str | None = Field(None, description="type of GPU as `sinfo -o %G` calls it, e.g. a100; null = any")
    cores: PositiveInt = Field(4, description="cores of a worker")
    memory_mb: PositiveInt = Field(16_000, description="memory of a worker")
    time_limit_minutes: PositiveFloat = Field(240, description="of a worker's job")
    leave_minutes: PositiveFloat = Field(
        15, description="a worker leaves so long before its time limit, and is replaced: more than a block takes"
    )
    stagger_minutes: NonNegativeFloat = Field(
        10, description="up to twice as much earlier, by chance, so that not all leave at once"
    )
    interface: str | None = Field(None, description="network on which workers find the job, e.g. ib0")
    options: list[str] = Field([], description="further options of sbatch, e.g. --constraint=ssd")

    @model_validator(mode="after")
    def _stays_for_a_while(self) -> "SlurmConfig":
        left = self.time_limit_minutes - self.leave_minutes - 2 * self.stagger_minutes
        if left <= 0:
            raise ValueError(
                f"a worker would leave at once: time_limit_minutes {self.time_limit_minutes:g} - leave_minutes "
                f"{self.leave_minutes:g} - 2 x stagger_minutes {self.stagger_minutes:g} is {left:g}"
            )
        return self


class WatershedConfig(Section):
    """Fragments of the foreground; all lengths in px of the section."""

    reach_px: PositiveFloat = Field(4.0, description="distance to the membrane above which all is equally far inside")
    certainty_px: NonNegativeFloat = Field(
        5.0, description="by how much a voxel that is certainly inside is higher: fragments end at faint membranes, too"
    )
    smoothing_px: NonNegativeFloat = Field(
        1.0, description="std of the Gaussian over both: more gives fewer, larger fragments"
    )
    grow_px: NonNegativeFloat = Field(6.0, description="how far fragments extend into the membrane")


class AgglomerateConfig(Section):
    """Joining the fragments of the watershed; a change here merges and relabels, and labels nothing again."""

    method: Literal["none", "mean", "quantile", "multicut"] = Field(
        "mean",
        description="none | mean, quantile: of the boundary probability over a contact | multicut: needs bioimage-cpp",
    )
    threshold: OpenProbability | Literal["auto"] = Field(
        0.5,
        description="fragments whose boundary scores less are joined; auto = least VOI on `evaluate.threshold_volumes`",
    )
    quantile: Probability = Field(0.5, description="for `quantile`: 0.5 is the median")
    mismatch: NonNegativeFloat = Field(
        0.1,
        description="for connectivity `section`: how much it speaks against a link between two sections that the two "
        "fragments are larger than their overlap",
    )


class SegmentConfig(Section):
    """From probabilities to instances."""

    method: Literal["components", "watershed"] = Field(
        "components", description="components: connected above the threshold (the paper) | watershed, then agglomerate"
    )
    threshold: OpenProbability | Literal["auto"] = Field(
        0.5, description="of the foreground's probability; auto = best V_rand on `evaluate.threshold_volumes`"
    )
    foreground: str | list[str] | None = Field(
        None, description="class that makes instances, null = the last; for components several, each with its instances"
    )
    connectivity: Literal["section", "volume"] = Field(
        "section",
        description="section: each section alone; the fragments of a watershed are then linked by agglomerate | "
        "volume: in 3-D",
    )
    bridge_sections: Annotated[int, Field(ge=0)] | None = Field(
        1,
        description="for a watershed per section: bad or missing sections that a link between fragments may skip; "
        "null = sections are not linked",
    )
    watershed: WatershedConfig = Field(WatershedConfig(), description="for method `watershed`")
    agglomerate: AgglomerateConfig = Field(AgglomerateConfig(), description="for method `watershed`")
    fill_holes: Annotated[int, Field(ge=0)] = Field(
        0, description="what one object encloses, of at most this many voxels, becomes part of it"
    )
    minimum_size: Annotated[int, Field(ge=0)] = Field(0, description="smaller objects are removed (voxels)")
    first_id: PositiveInt = Field(1, description="id of the first object; ids are dense and in scan order")

    @model_validator(mode="after")
    def _one_class_for_watershed(self) -> "SegmentConfig":
        if self.method == "watershed" and isinstance(self.foreground, list):
            raise ValueError(f"segment.foreground {self.foreground}: a watershed needs one class, the cells' interior")
        if self.foreground == []:
            raise ValueError("segment.foreground is empty: name a class, or null for the last")
        return self

    @model_validator(mode="after")
    def _nothing_without_effect(self) -> "SegmentConfig":
        graph, how = self.agglomerate, self.agglomerate.method
        watershed = self.method == "watershed"
        for key, value, default, beside, applies in (
            ("watershed", self.watershed, WatershedConfig(), f"method: {self.method}", watershed),
            ("agglomerate", graph, AgglomerateConfig(), f"method: {self.method}", watershed),
            ("agglomerate.threshold", graph.threshold, 0.5, f"agglomerate.method: {how}", how != "none"),
            ("agglomerate.quantile", graph.quantile, 0.5, f"agglomerate.method: {how}", how == "quantile"),
        ):
            if not applies and value != default:
                said = value.model_dump(exclude_defaults=True) if isinstance(value, Section) else value
                raise ValueError(
                    f"segment.{key} is {said}, but has no effect beside segment.{beside}: remove it, or change the "
                    "other"
                )
        return self

    @property
    def classes(self) -> list[str | None]:
        """The classes that make instances; None = the last."""
        return list(self.foreground) if isinstance(self.foreground, list) else [self.foreground]

    @property
    def main_class(self) -> str | None:
        """The class whose threshold is swept."""
        return self.classes[0]

    @property
    def sections_alone(self) -> bool:
        """Whether no object extends over two sections."""
        joined = self.method == "watershed" and self.agglomerate.method != "none"
        return self.connectivity == "section" and not (joined and self.bridge_sections is not None)

    @property
    def has_graph(self) -> bool:
        """Whether it takes to know which fragments touch."""
        return self.fill_holes > 0 or (self.method == "watershed" and self.agglomerate.method != "none")


class EvaluateConfig(Section):
    """Scores against the labels."""

    volumes: list[str] = Field([], description="volumes to score")
    threshold_volumes: list[str] = Field(
        [], description="volumes whose best V_rand chooses the threshold; normally the training volumes"
    )


class VerifyConfig(Section):
    """`snakemake verify`: windows that are inferred again."""

    windows: PositiveInt = Field(8, description="windows a volume: at borders of blocks and jobs, at faces, anywhere")
    side: PositiveInt = Field(64, description="side of a window in px")
    seed: int = Field(0, description="of the windows' positions")


class ExportConfig(Section):
    """`snakemake export`: what the bioimage.io package claims; nothing that is not said here."""

    authors: list[str] = Field([], description="names of those who made the model")
    license: str | None = Field(None, description="SPDX identifier, e.g. CC-BY-4.0")
