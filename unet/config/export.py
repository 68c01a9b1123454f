"""Section `export`: what the exported model says of itself."""

from pydantic import Field

from unet.config.section import Section


class ExportConfig(Section):
    """Metadata of the bioimage.io package that `snakemake export` writes. The package claims only what is set here."""

    authors: list[str] = Field([], description="Names of the people who made the model.")
    license: str | None = Field(
        None, description="SPDX identifier of the model's licence, such as CC-BY-4.0. With null the package names none."
    )
