"""Sections `export_tiff`, `export_precomputed` and `export_webknossos`: which stores are written for other programs."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from unet.config.section import PositiveInt, Section

StoreName = Literal["raw", "mask", "classes", "labels", "targets", "weights", "probability", "segmentation"]
Range = tuple[Annotated[int, Field(ge=0)], PositiveInt]
VOLUME = "Name of the volume. With null it is the first of `predict.volumes`."


class ExportTiffConfig(Section):
    """The OME-TIFF that `snakemake export_tiff` writes, for Fiji and others."""

    volume: str | None = Field(None, description=VOLUME)
    store: StoreName = Field("segmentation", description="Name of the store that is written.")
    box: tuple[Range, Range, Range] | None = Field(
        None,
        description="Voxels `[[z, z], [y, y], [x, x]]` that are written, the second of each pair left out. With null "
        "it is the whole volume.",
    )

    @field_validator("box")
    @classmethod
    def _not_empty(cls, box: tuple[Range, Range, Range] | None) -> tuple[Range, Range, Range] | None:
        for axis, (low, high) in zip("zyx", box or (), strict=False):
            if low >= high:
                raise ValueError(f"along {axis} it begins at {low} and ends at {high}; the end has to be larger")
        return box


class ExportStoresConfig(Section):
    """Stores that are written whole."""

    volume: str | None = Field(None, description=VOLUME)
    stores: list[StoreName] = Field(
        ["raw", "segmentation"], min_length=1, description="Names of the stores that are written."
    )

    @field_validator("stores")
    @classmethod
    def _each_once(cls, stores: list[StoreName]) -> list[StoreName]:
        if len(set(stores)) < len(stores):
            raise ValueError(f"{stores} names a store twice; name it once")
        return stores


class ExportPrecomputedConfig(ExportStoresConfig):
    """The volume in neuroglancer's precomputed format that `snakemake export_precomputed` writes."""


class ExportWebknossosConfig(ExportStoresConfig):
    """The dataset of WEBKNOSSOS, in wkw, that `snakemake export_webknossos` writes."""
