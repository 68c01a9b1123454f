"""The section of the report that `verify` writes."""

from pathlib import Path

import pytest

from unet.run.report.inserted_sections import insert_section
from unet.run.report.verify_section import VolumeChecks, render_verify_section

TEMPLATE = (Path(__file__).parents[4] / "workflow/report/checks.html.j2").read_text()


def test_the_section_names_what_was_found_and_replaces_an_older_one() -> None:
    checks = {"train": VolumeChecks(18, {"block border": 2, "anywhere": 1}, 0.0, 1.0, 1.0312, "of 255")}
    section = render_verify_section(TEMPLATE, checks, "2026-11-24 22:00:00")
    for part in (
        "train",
        "<td>18</td>",
        "2 × block border, 1 × anywhere",
        "0 of 255",
        "1 of 255",
        "1.031",
        "2026-11-24",
    ):
        assert part in section
    page = "<main><!-- checks --><section>an older one</section><!-- /checks --></main>"
    assert insert_section(page, "checks", section) == f"<main><!-- checks -->{section}<!-- /checks --></main>"


def test_a_page_without_a_place_is_refused() -> None:
    with pytest.raises(ValueError, match="no markers for the checks"):
        insert_section("<main></main>", "checks", "new")
