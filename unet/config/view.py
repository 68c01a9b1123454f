"""Section `view`: what `snakemake view` shows, and where."""

from typing import Annotated

from pydantic import Field, model_validator

from unet.config.section import PositiveInt, Section

Voxel = Annotated[int, Field(ge=0)]


class ViewConfig(Section):
    """The layers that `snakemake view` shows in neuroglancer. No key of this section changes a result.

    On the command line: `snakemake view --config view="{volume: test, error: 1}"`.
    """

    volume: str | None = Field(
        None, description="Name of the volume to show. With null it is the first of `predict.volumes`."
    )
    position: tuple[Voxel, Voxel, Voxel] | None = Field(
        None, description="Voxel `[z, y, x]` of the volume at which it opens. With null it is the middle."
    )
    error: PositiveInt | None = Field(
        None,
        description="Number of an erroneous object at which it opens, 1 for the worst, as the report lists them. The "
        "object is highlighted.",
    )
    port: Annotated[int, Field(gt=0, lt=65536)] | None = Field(
        None, description="Port of the server on this machine. With null it is any that is free."
    )
    state: str | None = Field(
        None,
        description="File to which the state is written as JSON, for a neuroglancer of your own. Then no server is "
        "started.",
    )
    address: str | None = Field(
        None,
        description="Address at which your own server has the folder `{results}`, for `state`. Stores behind "
        "`storage.address` are read from there.",
    )

    @model_validator(mode="after")
    def _one_place(self) -> "ViewConfig":
        if self.position is not None and self.error is not None:
            raise ValueError(
                f"position is {list(self.position)} and error is {self.error}: both say where it opens; remove one"
            )
        if self.address is not None and self.state is None:
            raise ValueError(f"address is {self.address}, but is read only with state: set state, such as view.json")
        return self
