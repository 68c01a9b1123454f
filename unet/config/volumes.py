"""Section `volumes`: the user's images and annotations."""

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from unet.config.label_kinds import IGNORE, check_class_values, class_names
from unet.config.section import PositiveFloat, PositiveInt, Section, Triple
from unet.config.source import OneSource, SourceConfig, Sources
from unet.storage.address import is_address
from unet.storage.ngff import implausible_voxel_size

Range = tuple[Annotated[int, Field(ge=0)], PositiveInt]
TAKEN_NAMES = ("ours", "theirs")
"""Names that scores of this segmentation and of others have in every report."""
NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]*$"
"""Names that become parts of file names."""
LabelValue = Annotated[int, Field(ge=-(2**63), lt=2**64)]


class SkeletonsConfig(Section):
    """Skeletons of the true neurons of a volume, by which the expected run length is scored."""

    files: str = Field(
        description="Path of an SWC file, or of a folder of SWC files. Each file is one neuron, however many trees it "
        "holds."
    )
    unit_nm: PositiveFloat = Field(
        1.0, description="Length in nm of one unit of the skeletons' x, y and z; 1000 for coordinates in µm."
    )

    @field_validator("files")
    @classmethod
    def _no_address(cls, files: str) -> str:
        if is_address(files):
            raise ValueError("skeletons are read from a file system; give a path instead of an address")
        return files


class VolumeConfig(Section):
    """One volume: its image files, and what the files do not say. `<name>` is a name of your choice."""

    raw: Sources = Field(
        description="The intensities: a path, or a mapping of `path` and what the file does not say. Several sources "
        "in a list are channels."
    )
    labels: Sources | None = Field(
        None,
        description="The annotation, in the same formats. It may cover a part of the volume (`offset`). Several "
        "sources in a list annotate different parts. With null there is none.",
    )
    label_kind: Literal["instances", "interior", "classes"] = Field(
        "instances",
        description="Meaning of the values in `labels`. `instances`: one id per cell, 0 is outside of all cells. "
        "`interior`: 0 is membrane, the one other value is the interior of cells. `classes`: each value belongs to a "
        "class of `class_values`.",
    )
    class_values: dict[str, int | list[int]] = Field(
        default_factory=dict,
        description="For label_kind `classes`: the grey values in `labels` by class name. The first class is "
        f"background; the name `{IGNORE}` stands for voxels that are not annotated.",
    )
    ignore_id: LabelValue | list[LabelValue] | None = Field(
        None,
        description="For label_kind `instances` and `interior`: the value in `labels` of voxels that are not "
        "annotated, such as -1, or a list of such values. With null there is none. Voxels beyond labels of a part are "
        "never annotated.",
    )
    voxel_size_nm: tuple[PositiveFloat, PositiveFloat, PositiveFloat] | None = Field(
        None,
        description="Voxel size (z, y, x) of the raw file in nm. With null it is read from the file. A voxel size in "
        "the file that differs by over 1 % stops the run.",
    )
    voxel_size_from: Literal["agreement", "configuration"] = Field(
        "agreement",
        description="Which voxel size counts. `agreement`: the file and `voxel_size_nm` have to agree, if both are "
        "given. `configuration`: `voxel_size_nm`, whatever the files say.",
    )
    sections: Range | None = Field(
        None,
        description="Half-open range [first, stop] of the sections to use, counted from 0. With null all sections are "
        "used.",
    )
    crop: tuple[Range, Range, Range] | None = Field(
        None,
        description="Box of the raw file to use, as half-open ranges `[[z, z], [y, y], [x, x]]` in its voxels. "
        "With null the whole file is used.",
    )
    downsample: Triple = Field(
        (1, 1, 1),
        description="Voxels (z, y, x) that become one: of intensities the mean, of labels and mask the most frequent.",
    )
    mask: OneSource | None = Field(
        None,
        description="A mask, which is not 0 where there is tissue. Where it is 0, nothing is learnt and nothing is "
        "segmented.",
    )
    missing_chunks: Literal["fill", "error"] = Field(
        "fill",
        description="What happens if chunks of raw, labels or mask are missing in a Zarr store or HDF5 dataset. "
        "`fill`: they are read as the store's fill value, with a warning. `error`: the run stops.",
    )
    compare: dict[str, OneSource] = Field(
        default_factory=dict,
        description="Other segmentations of the same voxels by a name for each. They are scored beside this one; 0 "
        "means that a segmentation says nothing about a voxel.",
    )
    inside: dict[Annotated[str, Field(pattern=NAME)], OneSource] = Field(
        default_factory=dict,
        description="Second segmentations or class maps of the same voxels by a name for each, such as mitochondria. "
        "`snakemake objects` counts what of them lies inside each object; 0 is nothing.",
    )
    skeletons: SkeletonsConfig | None = Field(
        None, description="Skeletons of the true neurons. If they are given, the expected run length is scored as well."
    )
    label_check: Literal["error", "warn"] = Field(
        "error",
        description="What happens before training and scoring if the labels can hardly be right, or all intensities "
        "are equal. `error`: the run stops. `warn`: the run continues with a warning.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> "VolumeConfig":
        given = {given.place for given in self.raw}
        for key, others in (("labels", self.labels or ()), ("mask", (self.mask,) if self.mask else ())):
            for other in others:
                if other.place in given:
                    raise ValueError(
                        f"raw and {key} are both {other.path}; name the file of the intensities, and the file of the "
                        f"{key}"
                    )
        given |= {labels.place for labels in self.labels or ()}
        for name, compared in self.compare.items():
            if name in TAKEN_NAMES:
                raise ValueError(f"compare: the name {name!r} is that of a column of the report; choose another one")
            if compared.place in given:
                raise ValueError(
                    f"compare.{name} is {compared.path}, as raw or labels are; name the file of another segmentation"
                )
        for raw in self.raw:
            if raw.offset is not None or raw.first_number is not None:
                raise ValueError(
                    "raw has offset or first_number, which place labels and masks in the voxels of raw; remove it; to "
                    "leave out voxels of raw set crop"
                )
        for key, ends in (("sections", self.sections), *(("crop", ends) for ends in self.crop or ())):
            if ends is not None and ends[0] >= ends[1]:
                raise ValueError(f"{key} {list(ends)} is empty; it is a half-open range, e.g. [0, 21]")
        if self.sections is not None and self.crop is not None:
            raise ValueError("sections and crop both choose sections; write the sections as the first range of crop")
        if self.voxel_size_from == "configuration" and self.voxel_size_nm is None:
            raise ValueError("voxel_size_from: configuration needs voxel_size_nm: [z, y, x]")
        if self.label_kind == "classes" and self.labels and len(self.class_names) < 2:
            raise ValueError(
                f"label_kind: classes needs at least two names in class_values, got {self.class_names}; say which grey "
                "values each class has, as class_values: {membrane: 0, cell: 255}"
            )
        if self.label_kind != "classes" and self.class_values:
            raise ValueError(
                f"class_values is for label_kind: classes, but label_kind is {self.label_kind}; remove class_values, "
                "or set label_kind: classes"
            )
        if self.class_values:
            check_class_values(self.grey_values_of_class)
        if self.label_kind == "classes" and self.ignore_id is not None:
            raise ValueError(
                f"ignore_id {self.ignore_id} is for label_kind: instances or interior, but label_kind is classes: "
                "remove ignore_id; for a grey value that means not annotated, list it in class_values under ignore"
            )
        if self.label_kind == "interior" and 0 in self.not_annotated_values:
            raise ValueError(
                "ignore_id 0, but label_kind is interior, for which 0 is membrane: remove ignore_id; if 0 means not "
                "annotated and membranes have a value of their own, set label_kind: classes, with "
                "class_values: {membrane: <its value>, interior: <its value>, ignore: 0}"
            )
        return self

    @field_validator("voxel_size_nm")
    @classmethod
    def _plausible(cls, voxel_size_nm: tuple[float, float, float] | None) -> tuple[float, float, float] | None:
        if voxel_size_nm is not None and (problem := implausible_voxel_size(voxel_size_nm)):
            raise ValueError(problem)
        return voxel_size_nm

    @property
    def sources(self) -> dict[str, SourceConfig]:
        """Return raw, labels and mask by their keys; several sources of one key have numbers, as in `raw.1`."""
        found: dict[str, SourceConfig] = {}
        given_by_key = {"raw": self.raw, "labels": self.labels or (), "mask": (self.mask,) if self.mask else ()}
        for key, given in given_by_key.items():
            numbered = len(given) > 1
            found |= {f"{key}.{number}" if numbered else key: one for number, one in enumerate(given)}
        return found

    @property
    def class_names(self) -> list[str]:
        """Return the names of the classes that a network learns from this volume; the first is background."""
        if self.label_kind != "classes":
            return ["membrane", "interior"]
        return class_names(self.class_values)

    @property
    def not_annotated_values(self) -> tuple[int, ...]:
        """Return the values of `ignore_id`."""
        given = self.ignore_id
        return () if given is None else (given,) if isinstance(given, int) else tuple(given)

    @property
    def grey_values_of_class(self) -> dict[str, list[int]]:
        """Return `class_values` with every entry as a list."""
        return {k: [v] if isinstance(v, int) else list(v) for k, v in self.class_values.items()}
