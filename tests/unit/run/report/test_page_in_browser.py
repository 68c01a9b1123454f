"""The report in a real browser: WCAG AA by axe in light and dark, no page that is too wide, no console message."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.browser import browser_page
from tests.unit.run.report.test_page import TEMPLATE, full_report
from unet.run.report.inserted_sections import insert_section
from unet.run.report.meshes_section import MeshedObject, MeshesOfVolume, render_meshes_section
from unet.run.report.page import render
from unet.run.report.webp import webp_bytes, webp_data

PICTURE = webp_data(webp_bytes(np.full((9, 9, 3), 90, np.uint8)))
RULES = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]}}


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, list[str]]]:
    """The report of a small run in a browser, and what its console says."""
    path: Path = tmp_path_factory.mktemp("report") / "report.html"
    solids = {"test": MeshesOfVolume(PICTURE, [MeshedObject(3, "#ff0000", 0.5, 7.0, (1, 2, 3))])}
    section = render_meshes_section(TEMPLATE.with_name("meshes.html.j2").read_text(), solids)
    path.write_text(insert_section(render(TEMPLATE, full_report()), "meshes", section))
    said: list[str] = []
    with browser_page(1280, 900) as page:
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(path.as_uri())
        yield page, said


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 1280), ("light", 360)])
def test_axe_finds_nothing(shown: tuple[Any, list[str]], scheme: str, width: int) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")
    page, _ = shown
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 900})
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    found = axe.Axe().run(page, options=RULES).response["violations"]
    assert [(one["id"], [node["html"] for node in one["nodes"]][:3]) for one in found] == []


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_the_page_is_as_wide_as_the_window(shown: tuple[Any, list[str]], width: int) -> None:
    page, said = shown
    page.set_viewport_size({"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert said == []


def test_the_first_key_leads_past_the_navigation(shown: tuple[Any, list[str]]) -> None:
    page, _ = shown
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "To the report"
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"


def test_folded_parts_are_printed(shown: tuple[Any, list[str]]) -> None:
    page, _ = shown
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = false)")
    text = page.get_by_text("own_score")
    assert not text.is_visible()
    page.emulate_media(media="print")
    assert text.is_visible()
    assert not page.get_by_role("navigation").is_visible()
    page.emulate_media(media="screen")
