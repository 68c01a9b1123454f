"""Section `export`: the model for other programs."""

from pydantic import Field

from unet.config.section import Section


class ExportConfig(Section):
    """`snakemake export`: what the bioimage.io package claims; nothing that is not said here."""

    authors: list[str] = Field([], description="names of those who made the model")
    license: str | None = Field(None, description="SPDX identifier, e.g. CC-BY-4.0")
