"""Neuroglancer itself, in a headless browser: grey values and colours of segments are seen at the right voxels."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.browser import browser_page
from tests.unit.run.view.stores import arrays, write_run
from unet.run.view.layers import view_of
from unet.run.view.server import CLIENT, Content, ViewServer, client_mount
from unet.run.view.state import SPLIT_COLOUR, page_that_opens

neuroglancer = pytest.importorskip("neuroglancer", reason="needs neuroglancer: pip install '.[view]'")
CLIENT_FOLDER = Path(neuroglancer.__path__[0]) / "static" / "client"
PX = 10
"""Pixels of the screen per voxel along y; a voxel is twice as wide as high, so it takes 20 along x."""
COLOURS = {"5": (255, 0, 0), "6": (0, 255, 0), "7": (0, 0, 255)}
HEX = {name: "#" + bytes(colour).hex() for name, colour in COLOURS.items()}
AT = (3, 20, 18)
"""Voxel in the middle of the view."""
READY = "window.viewer && viewer.isReady() && viewer.layerManager.managedLayers.filter(one => one.isReady()).length"
"""How many layers are drawn, once all are."""


def shown(state: dict[str, Any], opacity: float) -> dict[str, Any]:
    """The state with one view and nothing drawn over the voxels; raw alone, or segments over it."""
    layers = {layer["name"]: layer for layer in state["layers"]}
    raw, segmentation = layers["raw"], layers["segmentation"]
    raw["shaderControls"] = {"normalized": {"range": [0, 255]}}
    segmentation |= {"selectedAlpha": opacity, "segmentColors": HEX}
    bare = {"layout": "xy", "showAxisLines": False, "showScaleBar": False, "showDefaultAnnotations": False}
    bare |= {"crossSectionScale": 1 / PX, "layers": [raw, segmentation] if opacity else [raw]}
    return {key: value for key, value in state.items() if key != "selectedLayer"} | bare


def picture(page: Any) -> tuple[np.ndarray, tuple[float, float]]:
    """A screenshot as RGB, and the pixel in the middle of the view."""
    pixels = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB")).astype(int)
    box = page.locator(".neuroglancer-rendered-data-panel").first.bounding_box()
    return pixels, (box["y"] + box["height"] / 2, box["x"] + box["width"] / 2)


@contextmanager
def served(folder: Path, values: dict[str, np.ndarray], **view: Any) -> Iterator[tuple[ViewServer, dict[str, Any]]]:
    """A server of a run, and the state that it would open with."""
    server = ViewServer()
    shown_of_run = view_of(write_run(folder, values, view=view), server.url)
    server.mounts |= {**shown_of_run.mounts, CLIENT: client_mount(CLIENT_FOLDER)}
    thread = Thread(target=server.serve)
    thread.start()
    try:
        yield server, shown_of_run.state
    finally:
        server.stop()
        thread.join()
        server.close()


@contextmanager
def opened(server: ViewServer, states: dict[str, dict[str, Any]]) -> Iterator[Any]:
    """A page of a browser for these states; it complains of nothing, and asks nobody else."""
    files = {name: Content.of_bytes(page_that_opens(state, f"../{CLIENT}")) for name, state in states.items()}
    server.mounts["states/"] = files.get
    asked: list[str] = []
    errors: list[str] = []
    with browser_page(560, 420) as page:
        page.set_default_timeout(300_000)
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        yield page
    assert errors == []
    assert [url for url in asked if not url.startswith((server.url, "blob:", "data:"))] == []


def test_grey_values_and_segments_are_where_their_voxels_are(tmp_path: Path) -> None:
    values = arrays()
    with served(tmp_path, values, position=list(AT)) as (server, state):
        states = {"raw.html": shown(state, 0), "both.html": shown(state, 0.5)}
        with opened(server, states) as page:
            for name, opacity in (("raw.html", 0.0), ("both.html", 0.5)):
                page.goto(f"{server.url}states/{name}")
                page.wait_for_function(f"{READY} === {1 if opacity == 0 else 2}")
                page.wait_for_timeout(200)
                compare(*picture(page), values, opacity)


def test_an_error_is_marked_at_its_voxel_and_no_layer_is_lost(tmp_path: Path) -> None:
    with served(tmp_path, arrays(), error=1) as (server, state):
        bare = {"layout": "xy", "showAxisLines": False, "showScaleBar": False, "crossSectionScale": 1 / PX}
        with opened(server, {"one.html": {**state, **bare, "selectedLayer": {"visible": False}}}) as page:
            page.goto(f"{server.url}states/one.html")
            names = [layer["name"] for layer in state["layers"]]
            page.wait_for_function(f"{READY} === {len(names)}")
            page.wait_for_timeout(200)
            assert page.evaluate("viewer.layerManager.managedLayers.map(layer => layer.name)") == names
            listed = page.evaluate("viewer.state.toJSON().layers.map(layer => (layer.annotations || []).length)")
            assert listed == [1, 1, 0, 0, 0, 0, 0]
            pixels, middle = picture(page)
    y, x = map(round, middle)
    near = np.abs(pixels[y - 8 : y + 9, x - 8 : x + 9] - list(bytes.fromhex(SPLIT_COLOUR[1:]))).max(axis=-1)
    assert near.min() <= 12


def compare(pixels: np.ndarray, middle: tuple[float, float], values: dict[str, np.ndarray], opacity: float) -> None:
    """Every voxel of the section around the middle has the grey value and the colour that its stores hold."""
    (z, y0, x0), compared = AT, 0
    for y in range(y0 - 15, y0 + 16):
        for x in range(x0 - 12, x0 + 13):
            at = round(middle[0] + (y - y0) * PX), round(middle[1] + (x - x0) * 2 * PX)
            grey = np.repeat(float(values["raw"][z, y, x]), 3)
            colour = np.array(COLOURS[str(values["segmentation"][z, y, x])])
            wanted = (1 - opacity) * grey + opacity * colour
            assert np.abs(pixels[at] - wanted).max() <= 3, (opacity, (z, y, x), at, pixels[at], wanted)
            compared += 1
    assert compared == 31 * 25
