"""The section of the report about the results of `snakemake verify`."""

from collections.abc import Mapping
from dataclasses import dataclass

from unet.run.report.inserted_sections import rendered


@dataclass(frozen=True)
class VolumeChecks:
    """The results of the checks of one volume.

    Parameters
    ----------
    blocks : int
        Blocks of all stores that were read again; each has the digest that was recorded when it was written.
    crops : dict
        Crops that were predicted again: kind of position -> number.
    difference : float
        Largest difference between a stored probability and the same tiles inferred again, in the stored unit: grey
        levels of uint8, or probability.
    across_tiles : float
        The same difference with tiles of another size.
    seam_score : float
        Mean jump across block borders over the mean jump beside them; 1 = no seam.
    unit : str
        Unit of the differences.
    """

    blocks: int
    crops: Mapping[str, int]
    difference: float
    across_tiles: float
    seam_score: float
    unit: str


def render_verify_section(template: str, checks: Mapping[str, VolumeChecks], when: str) -> str:
    """Return the section as HTML.

    Parameters
    ----------
    template : str
        Source of the Jinja template (`workflow/report/checks.html.j2`).
    checks : mapping
        Results by volume.
    when : str
        Date and time of the checks.
    """
    return rendered(template, checks=checks, when=when)
