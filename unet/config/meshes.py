"""Sections `meshes` and `skeletons`: the objects that get one, and how it is made."""

from typing import Annotated, Literal

from pydantic import Field

from unet.config.section import PositiveFloat, PositiveInt, Section

Ids = dict[str, list[PositiveInt]]


class MeshesConfig(Section):
    """Meshes of objects: `snakemake meshes`. No other command makes them."""

    ids: Ids = Field(
        default_factory=dict,
        description="Ids of the objects by the name of the volume. Volumes that are not named have their largest.",
    )
    largest: PositiveInt = Field(10, description="Number of objects, from the largest on, where no ids are named.")
    formats: list[Literal["ply", "obj", "stl", "neuroglancer"]] = Field(
        ["ply", "neuroglancer"],
        min_length=1,
        description="Formats of the meshes. `neuroglancer` is its multi-resolution format in a folder `precomputed`, "
        "and needs the package DracoPy; the others are files.",
    )
    smoothing: Annotated[int, Field(ge=0)] = Field(
        3, description="Rounds of smoothing that keeps the volume. More rounds give a smoother surface."
    )
    reduction: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0,
        description="Share of the triangles that is removed where the surface is nearly flat. Above 0 it needs the "
        "package bioimage-cpp, and a second per 6,000 triangles.",
    )


class SkeletonsConfig(Section):
    """Skeletons of objects: `snakemake skeletons`. No other command makes them."""

    ids: Ids = Field(
        default_factory=dict,
        description="Ids of the objects by the name of the volume. Volumes that are not named have their largest.",
    )
    largest: PositiveInt = Field(10, description="Number of objects, from the largest on, where no ids are named.")
    scale: PositiveFloat = Field(
        1.5,
        description="Factor of the distance to the surface within which a path takes the voxels around it. A larger "
        "value gives fewer branches.",
    )
    radius_nm: PositiveFloat = Field(
        300.0, description="Length in nm that is added to that distance. A larger value gives fewer branches."
    )
    max_voxels: PositiveInt = Field(
        50_000_000,
        description="Voxels of an object's bounding box up to which it is skeletonised at full resolution. A larger "
        "object is down-sampled until it fits, which the log and the table say.",
    )
