"""Take the pictures of the report and of neuroglancer that the pages show, in a headless Chromium.

python docs/make_screenshots.py results      of a run of the sample, with its report, `snakemake meshes` and `skeletons`

1. Open `report.html` as a file: wide, narrow and dark, the viewer at the worst object, the largest objects in 3-D.
2. Serve the run as `snakemake view` does, and open neuroglancer in the middle of the volume.
3. Write each picture as WebP into `docs/images/`.

It needs the extras `view` and `test`, and Chromium. Nothing outside of this machine is asked for anything.
"""

import argparse
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
from typing import Any

import imagecodecs
import yaml

from unet.config.root import Config, load_config
from unet.run.view.layers import view_of
from unet.run.view.server import CLIENT, Content, ViewServer, client_mount
from unet.run.view.state import page_that_opens
from unet.storage.files import read_json

IMAGES = Path(__file__).parent / "images"
ARGUMENTS = ["--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--no-sandbox"]
QUALITY = 60
VOLUME = "test"
READY = "document.querySelector('.viewer').dataset.drawn === 'yes'"


def write(name: str, png: bytes) -> None:
    """Write a picture as WebP."""
    pixels = imagecodecs.png_decode(png)[..., :3].copy()
    content = bytes(imagecodecs.webp_encode(pixels, level=QUALITY, lossless=False, method=6))
    (IMAGES / name).write_bytes(content)
    print(f"{name}, {len(content) / 1e3:.0f} kB")


def until(page: Any, expression: str) -> None:
    """Wait until JavaScript is true. Playwright's own waiting is refused by the policy of the page."""
    while not page.evaluate(expression):
        page.wait_for_timeout(50)


def worst_of(results: Path, kind: str) -> dict[str, Any]:
    """Return the row of the erroneous object of a kind that is nearest to the middle."""
    rows = read_json(results / "volumes" / VOLUME / "evaluation.json")["worst"]
    shape = read_json(results / "receipts" / "survey" / f"{VOLUME}.json")["layout"]["shape"]

    def distance(row: dict[str, Any]) -> float:
        return max(abs(at / n - 0.5) for at, n in zip(row["centre"][1:], shape[1:], strict=True))

    return min(rows, key=lambda row: (row["kind"] != kind, distance(row)))


def report_pictures(browser: Any, results: Path) -> None:
    """Take the pictures of the report."""
    address = (results / "report.html").absolute().as_uri()
    z, y, x = worst_of(results, "merge")["centre"]
    place = f"#volume={VOLUME}&z={z}&y={y}&x={x}"
    for name, width, height, scheme in (
        ("report-wide.webp", 1200, 850, "light"),
        ("report-dark.webp", 1200, 1000, "dark"),
        ("report-narrow.webp", 390, 850, "light"),
    ):
        page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
        page.goto(address if name == "report-wide.webp" else address + place)
        until(page, READY)
        if name == "report-dark.webp":
            page.check("[data-layer=errors] [data-set=shown]")
            page.select_option("[data-set=arrangement]", "layers")
        if name != "report-wide.webp":
            page.evaluate("document.querySelector('#viewer').scrollIntoView()")
        until(page, READY)
        write(name, page.screenshot())
        solids = page.locator("#meshes .solids").first
        if name == "report-wide.webp" and solids.count():
            solids.scroll_into_view_if_needed()
            page.wait_for_timeout(500)
            write("report-meshes.webp", solids.screenshot())
        page.close()


@contextmanager
def served(config: Config) -> Iterator[str]:
    """Serve what `snakemake view` shows, and give the link to it."""
    found = find_spec("neuroglancer")
    if found is None or not found.submodule_search_locations:
        raise SystemExit("needs neuroglancer: pip install '.[view]'")
    server = ViewServer()
    view = view_of(config, server.url)
    content = Content.of_bytes(page_that_opens(view.state, CLIENT))
    client = Path(found.submodule_search_locations[0]) / "static" / "client"
    server.mounts |= {**view.mounts, CLIENT: client_mount(client), "open.html": {"": content}.get}
    thread = Thread(target=server.serve)
    thread.start()
    try:
        yield f"{server.url}open.html"
    finally:
        server.stop()
        thread.join()
        server.close()


def neuroglancer_picture(browser: Any, results: Path) -> None:
    """Take a picture of neuroglancer."""
    values = yaml.safe_load((results / "run_config.yaml").read_text())
    folder = os.getcwd()
    os.chdir(results.absolute().parent)  # the configuration names its files from there
    try:
        with served(load_config({**values, "view": {"volume": VOLUME}})) as link:
            page = browser.new_page(viewport={"width": 1200, "height": 850})
            page.goto(link)
            page.wait_for_function(
                "window.viewer && viewer.isReady() && viewer.layerManager.managedLayers.length", timeout=300_000
            )
            page.wait_for_timeout(3000)
            png = page.screenshot()
            page.close()
    finally:
        os.chdir(folder)
    write("neuroglancer.webp", png)


def main() -> None:
    """Take all pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("--only", choices=["report", "neuroglancer"])
    asked = parser.parse_args()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=ARGUMENTS)
        if asked.only in (None, "report"):
            report_pictures(browser, asked.results)
        if asked.only in (None, "neuroglancer"):
            neuroglancer_picture(browser, asked.results)
        browser.close()


if __name__ == "__main__":
    main()
