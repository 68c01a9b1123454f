"""What `snakemake verify` found, as a section of the report, which is put there when it is known.

The page holds two marks, between which the section goes:

    <!-- checks -->  ...  <!-- /checks -->
"""

from collections.abc import Mapping
from dataclasses import dataclass

from jinja2 import Environment, StrictUndefined

BEGIN, END = "<!-- checks -->", "<!-- /checks -->"


@dataclass(frozen=True)
class VolumeChecks:
    """What was checked of a volume.

    Parameters
    ----------
    blocks : int
        Blocks of all stores that were read again and have the digest under which they were recorded.
    windows : dict
        Windows that were inferred again, by kind of place.
    difference : float
        Largest difference of a stored probability from the same tiles inferred again, in the stored unit: grey levels
        of uint8, or probability.
    across_tiles : float
        The same with tiles of another size.
    seam_score : float
        Mean jump across block borders over the mean jump beside them; 1 where no seam shows.
    unit : str
        Of the differences.
    """

    blocks: int
    windows: Mapping[str, int]
    difference: float
    across_tiles: float
    seam_score: float
    unit: str


def checks_section(template: str, checks: Mapping[str, VolumeChecks], when: str) -> str:
    """The section as HTML.

    Parameters
    ----------
    template : str
        Source of the Jinja template (`workflow/report/checks.html.j2`).
    checks : mapping
        By volume.
    when : str
        Date and time.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(template).render(checks=checks, when=when)


def with_section(page: str, section: str) -> str:
    """The page with the section in its place.

    >>> with_section(f"a {BEGIN} old {END} b", "new")
    'a <!-- checks -->new<!-- /checks --> b'

    Raises
    ------
    ValueError
        If the page has no place for it.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the report has no place for the checks between {BEGIN} and {END}; run the report anew")
    return f"{before}{BEGIN}{section}{END}{after}"
