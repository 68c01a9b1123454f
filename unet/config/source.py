"""One image file, or folder of sections, of a volume: its address, and what its files do not say."""

import os
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from unet.config.section import Section
from unet.storage.address import checked_address, is_address, plain_address, split_path

NonNegativeInt = Annotated[int, Field(ge=0)]


class SourceConfig(Section):
    """One source of voxels. `raw: a.tif` is short for `raw: {path: a.tif}`."""

    path: str = Field(
        description="Path of the file, or of the folder of sections; `file.h5:/dataset` and `store.zarr:/array` name "
        "an array inside, `file.ome.tif:1` a series (counted from 0), `sections/*_c0.tif` some files of a folder. "
        "Zarr, N5 and neuroglancer precomputed may also lie at an address, `s3://bucket/volume.zarr:/path`."
    )
    axes: str | None = Field(
        None,
        description="Names of the stored axes in their order, such as `zxy` or `czyx`: one letter of c (channels), z, "
        "y and x per axis that is longer than 1. It overrules what the file says. With null the file's names are used.",
    )
    channels: Annotated[list[NonNegativeInt], Field(min_length=1)] | None = Field(
        None, description="Channels to use, counted from 0. With null all channels are used."
    )
    flip: list[Literal["z", "y", "x"]] = Field(
        default_factory=list, description="Axes that run in the opposite direction of the volume, as in `[y]`."
    )
    offset: tuple[int, int, int] | None = Field(
        None,
        description="For labels and masks of a part of the volume: voxel (z, y, x) of the raw file at which the first "
        "voxel of this file lies. With null it follows from the files, or the file covers the whole volume.",
    )
    first_number: NonNegativeInt | None = Field(
        None,
        description="For a folder with some sections of the volume: the number in the file names that means the raw "
        "file's first section, mostly 0 or 1. With null it follows from the file names of raw.",
    )

    @property
    def place(self) -> tuple[str, str | None, tuple[int, ...]]:
        """Return the file that the path means, however it is written, the array inside, and the channels."""
        channels = tuple(self.channels or ())
        if is_address(self.path):
            return self.path.rstrip("/"), None, channels
        file, inner = split_path(self.path)
        return os.path.realpath(file), inner and inner.strip("/"), channels

    @field_validator("path")
    @classmethod
    def _path_or_address(cls, path: str) -> str:
        return plain_address(checked_address(path))

    @field_validator("axes")
    @classmethod
    def _known_axes(cls, axes: str | None) -> str | None:
        if axes is not None and (not set(axes) <= set("czyx") or len(set(axes)) != len(axes) or not {*"yx"} <= {*axes}):
            raise ValueError("write each of the letters c, z, y and x at most once, and at least y and x, as in zyx")
        return axes

    @model_validator(mode="after")
    def _placed_once(self) -> "SourceConfig":
        if self.offset is not None and self.first_number is not None:
            raise ValueError("offset and first_number both place this source in z; remove one of them")
        return self


def _as_mapping(given: Any) -> Any:
    return given if isinstance(given, Mapping | SourceConfig) else {"path": given}


def _as_list(given: Any) -> Any:
    return [_as_mapping(one) for one in given] if isinstance(given, list | tuple) else [_as_mapping(given)]


OneSource = Annotated[SourceConfig, BeforeValidator(_as_mapping, json_schema_input_type=str | SourceConfig)]
"""A source, given by its path or by a mapping."""
Sources = Annotated[
    tuple[SourceConfig, ...],
    BeforeValidator(_as_list, json_schema_input_type=str | SourceConfig | list[str | SourceConfig]),
    Field(min_length=1),
]
"""Several sources, or one without a list."""
