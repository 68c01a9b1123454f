"""Insert the results of `snakemake verify` into an existing report, as a section between two marker comments:

<!-- checks -->  ...  <!-- /checks -->
"""

from collections.abc import Mapping
from dataclasses import dataclass

from jinja2 import Environment, StrictUndefined

BEGIN, END = "<!-- checks -->", "<!-- /checks -->"
"""Marker comments in the page."""


@dataclass(frozen=True)
class VolumeChecks:
    """The results of the checks of one volume.

    Parameters
    ----------
    blocks : int
        Blocks of all stores that were read again; each has the digest that was recorded when it was written.
    windows : dict
        Windows that were inferred again: kind of position -> number.
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
    windows: Mapping[str, int]
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
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(template).render(checks=checks, when=when)


def insert_verify_section(page: str, section: str) -> str:
    """Return the page with the section between the markers; an older section is replaced.

    >>> insert_verify_section(f"a {BEGIN} old {END} b", "new")
    'a <!-- checks -->new<!-- /checks --> b'

    Raises
    ------
    ValueError
        If the page has no markers.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the report has no place for the checks between {BEGIN} and {END}; run the report anew")
    return f"{before}{BEGIN}{section}{END}{after}"
