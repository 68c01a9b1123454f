"""Section `objects`: the tables of the segmented objects."""

from pydantic import Field

from unet.config.section import Section


class ObjectsConfig(Section):
    """Tables of the objects of every volume in `predict.volumes`, and of their contacts: `snakemake objects`."""

    in_every_run: bool = Field(
        False, description="Whether every run writes the tables. With false `snakemake objects` does, when it is asked."
    )
    parquet: bool = Field(
        False,
        description="Whether the tables are written as Parquet, too, beside CSV (needs the package pyarrow).",
    )
