"""Section `verify`: what `snakemake verify` infers again."""

from pydantic import Field

from unet.config.section import PositiveInt, Section


class VerifyConfig(Section):
    """`snakemake verify`: windows that are inferred again."""

    crops: PositiveInt = Field(8, description="windows a volume: at borders of blocks and jobs, at faces, anywhere")
    crop_px: PositiveInt = Field(64, description="side of a window in px")
    seed: int = Field(0, description="of the windows' positions")
