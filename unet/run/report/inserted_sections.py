"""Sections that other rules insert into an existing report, each between two marker comments:

<!-- checks -->  ...  <!-- /checks -->         by `snakemake verify`
<!-- meshes -->  ...  <!-- /meshes -->         by `snakemake meshes`
"""

from jinja2 import Environment, StrictUndefined


def has_markers_for(page: str, name: str) -> bool:
    """Return whether a page has the markers of a section."""
    return f"<!-- {name} -->" in page and f"<!-- /{name} -->" in page


def insert_section(page: str, name: str, section: str) -> str:
    """Return the page with a section between its markers; an older section is replaced.

    >>> insert_section("a <!-- checks --> old <!-- /checks --> b", "checks", "new")
    'a <!-- checks -->new<!-- /checks --> b'

    Raises
    ------
    ValueError
        If the page has no markers.
    """
    first, last = f"<!-- {name} -->", f"<!-- /{name} -->"
    before, _, rest = page.partition(first)
    _, _, after = rest.partition(last)
    if not has_markers_for(page, name):
        raise ValueError(f"the report has no markers for the {name}, {first} and {last}; make the report again")
    return f"{before}{first}{section}{last}{after}"


def rendered(template: str, **values: object) -> str:
    """Return a section as HTML; all text of the values is escaped.

    Parameters
    ----------
    template : source of the Jinja template
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(template).render(**values)
