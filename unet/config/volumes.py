"""Section `volumes`: the user's images and annotations."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from unet.config.label_kinds import IGNORE, check_class_values, class_names
from unet.config.section import PositiveFloat, PositiveInt, Section
from unet.storage.address import checked_address, is_address
from unet.storage.ngff import implausible_voxel_size

_IGNORE_IN_INTERIOR = "set label_kind: classes, with class_values: {membrane: 0, interior: 255, ignore: <that value>}"


class SkeletonsConfig(Section):
    """Skeletons of the true neurons of a volume."""

    files: str = Field(description="an SWC file, or a folder of them; each file is one neuron, whatever its trees")
    unit_nm: PositiveFloat = Field(1.0, description="nm of a unit of their x, y and z; 1000 where they are in µm")

    @field_validator("files")
    @classmethod
    def _no_address(cls, files: str) -> str:
        if is_address(files):
            raise ValueError("skeletons are read from a file system; give a path instead of an address")
        return files


class VolumeConfig(Section):
    """One volume: image files, and what is known of them."""

    raw: str | Annotated[list[str], Field(min_length=1)] = Field(
        description="grey values: a directory of TIFF or PNG sections, a multi-page TIFF, HDF5 as "
        "`file.h5:/dataset`, MRC, Zarr v2 or v3, OME-Zarr; a list of them, or an axis c, is several input channels; "
        "Zarr also at an address, `s3://bucket/volume.zarr:/path`"
    )
    labels: str | None = Field(None, description="annotation of the same shape, in the same formats")
    label_kind: Literal["instances", "interior", "classes"] = Field(
        "instances", description="instances: one id a cell | interior: 0 = membrane | classes: grey values"
    )
    class_values: dict[str, int | list[int]] = Field(
        default_factory=dict,
        description=f"for `classes`: name -> grey values, the first name is background; `{IGNORE}` = not annotated",
    )
    ignore_id: int | None = Field(None, ge=0, description="for `instances`: the id that means not annotated")
    voxel_size_nm: tuple[PositiveFloat, PositiveFloat, PositiveFloat] | None = Field(
        None, description="z, y, x in nm; read from the file where it says so, an error where they disagree"
    )
    sections: tuple[Annotated[int, Field(ge=0)], PositiveInt] | None = Field(
        None, description="half-open range of sections; null = all"
    )
    mask: str | None = Field(None, description="not 0 where there is tissue; elsewhere nothing is learnt or found")
    missing_chunks: Literal["read", "error"] = Field(
        "read",
        description="Chunks of raw, labels or mask that a Zarr store or HDF5 dataset does not hold: `read` takes them "
        "as the store's fill value and warns, `error` stops the run.",
    )
    compare: dict[str, str] = Field(
        default_factory=dict,
        description="others' segmentations of the same voxels, name -> file, scored beside ours; 0 = they say nothing",
    )
    skeletons: SkeletonsConfig | None = Field(
        None, description="of the true neurons; the expected run length is scored too"
    )

    label_check: Literal["stop", "warn"] = Field(
        "stop",
        description="What happens before training and scoring where the labels, or grey values that are all equal, can "
        "hardly be right: stop the run | warn only.",
    )

    @field_validator("raw", "labels", "mask", "compare")
    @classmethod
    def _no_credentials(cls, value: Any) -> Any:
        for address in value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]:
            checked_address(address or "")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> "VolumeConfig":
        raws = [self.raw] if isinstance(self.raw, str) else self.raw
        for key, path in (("labels", self.labels), ("mask", self.mask)):
            if path in raws:
                raise ValueError(
                    f"raw and {key} are both {path}; name the file of the grey values, and that of the {key}"
                )
        if self.sections is not None and self.sections[0] >= self.sections[1]:
            raise ValueError(f"sections {list(self.sections)} is empty; it is a half-open range, e.g. [0, 21]")
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
        if self.label_kind != "instances" and self.ignore_id is not None:
            instead = "list it in class_values under ignore" if self.label_kind == "classes" else _IGNORE_IN_INTERIOR
            raise ValueError(
                f"ignore_id {self.ignore_id} is an id of label_kind: instances, but label_kind is {self.label_kind}: "
                f"remove ignore_id; for a grey value that means not annotated, {instead}"
            )
        return self

    @field_validator("voxel_size_nm")
    @classmethod
    def _plausible(cls, voxel_size_nm: tuple[float, float, float] | None) -> tuple[float, float, float] | None:
        if voxel_size_nm is not None and (problem := implausible_voxel_size(voxel_size_nm)):
            raise ValueError(problem)
        return voxel_size_nm

    @property
    def class_names(self) -> list[str]:
        """Names of the classes that a network learns from this volume; the first is background."""
        if self.label_kind != "classes":
            return ["membrane", "interior"]
        return class_names(self.class_values)

    @property
    def grey_values_of_class(self) -> dict[str, list[int]]:
        """`class_values` with every entry as a list."""
        return {k: [v] if isinstance(v, int) else list(v) for k, v in self.class_values.items()}
