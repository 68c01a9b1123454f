"""Section `report`: the tiles of the report's viewer."""

from pydantic import Field

from unet.config.section import PositiveFloat, Section


class ReportConfig(Section):
    """The viewer of the report. No key of this section changes a segmentation or a score."""

    single_file: bool = Field(
        False,
        description="Whether the report is one file that holds all its pictures. With false the pictures of the viewer "
        "are in the folder `report` beside `report.html`, and the browser loads those that it shows.",
    )
    budget_mb: PositiveFloat = Field(
        20,
        description="Size of the viewer's pictures in MB at most, of all volumes together. A volume that does not fit "
        "is shown at a coarser level of its pyramid, and at full resolution around its worst objects.",
    )
