"""The viewer in a browser, opened from a disk: every control, exact planes, and nothing asked of the network."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest

from tests.array_layers import ArrayLayers
from tests.browser import browser_page
from unet.run.report.page import ReportData, render
from unet.run.report.tiles import TileLevel, all_tiles
from unet.run.report.viewer import ViewedVolume, render_viewer, still_pictures, write_tiles

TEMPLATES = Path(__file__).parents[4] / "workflow" / "report"
SHAPE, VOXEL_NM = (12, 48, 40), (40.0, 10.0, 10.0)
MIDDLE = (6, 24, 20)
PLANES = {"xy": (1, 2), "xz": (0, 2), "yz": (1, 0)}
"""Axes of a pane's rows and columns."""


def cells(seed: int) -> np.ndarray:
    """Opaque colours, constant in cells of 2 x 3 x 5 voxels."""
    colours = np.random.default_rng(seed).integers(0, 256, (6, 16, 8, 4), np.uint8)
    colours[..., 3] = 255
    return colours.repeat(2, 0).repeat(3, 1).repeat(5, 2)


LAYERS = ArrayLayers(
    **{"raw": np.full(SHAPE, 80, np.uint8), "probability": np.full(SHAPE, 200, np.uint8)},
    **{"segmentation": cells(1), "truth": cells(2), "errors": np.where(np.arange(40)[:, None] < 20, cells(3), 0)},
)


def volume(name: str, layers: ArrayLayers = LAYERS) -> ViewedVolume:
    """Return a volume of two levels, each of several bricks."""
    levels = [TileLevel(0, (1, s, s), (1, s, s), (12, 48 // s, 40 // s)) for s in (1, 2)]
    brick = (5, 16, 16)
    tiles = [all_tiles(layers, level, brick) for level in levels]
    return ViewedVolume(name, SHAPE, VOXEL_NM, layers.names, brick, tiles, still_pictures(layers, levels))


@dataclass
class Viewer:
    """The page in the browser."""

    page: Any
    address: str
    errors: list[str] = field(default_factory=list)
    asked: set[str] = field(default_factory=set)

    def open(self, link: str = "#volume=test&z=6&y=24&x=20") -> None:
        """Follow a link of the page, and wait for all tiles."""
        if not self.page.url.startswith(self.address):
            self.page.goto(self.address)
        self.page.evaluate(f"location.hash = ''; location.hash = '{link}'")
        self.page.wait_for_timeout(50)  # the page is told of it later
        self.settle()

    def settle(self) -> None:
        """Wait until everything is drawn."""
        self.until("document.querySelector('.viewer').dataset.drawn === 'yes'")

    def until(self, expression: str) -> None:
        """Wait until JavaScript is true. Playwright's own waiting is refused by the page's policy."""
        while not self.page.evaluate(expression):
            self.page.wait_for_timeout(20)

    def choose(self, setting: str, value: str) -> None:
        """Choose from a list."""
        self.page.select_option(f"[data-set={setting}]", value)
        self.settle()

    def do(self, action: str) -> None:
        """Press a button."""
        self.page.click(f"[data-do={action}]")
        self.settle()

    def press(self, *keys: str) -> None:
        """Press keys while the first pane has the focus."""
        self.page.locator(".pane").first.focus()
        for key in keys:
            self.page.keyboard.press(key)
        self.settle()

    def show(self, **opacities: float) -> None:
        """Show these layers with these opacities, and no others."""
        for name in LAYERS.names:
            row = self.page.locator(f"[data-layer={name}]")
            row.locator("[data-set=shown]").set_checked(name in opacities)
            if name in opacities:
                row.locator("[data-set=opacity]").fill(str(round(100 * opacities[name])))
        self.settle()

    def picture(self, pane: int = 0) -> np.ndarray:
        """A pane as it is seen, ``(y, x, 3)``."""
        return imagecodecs.png_decode(self.page.locator(".pane canvas").nth(pane).screenshot())[..., :3]

    def middle(self, pane: int = 0) -> list[int]:
        """Colour of the middle of a pane."""
        seen = self.picture(pane)
        return [int(one) for one in seen[seen.shape[0] // 2, seen.shape[1] // 2]]

    def text(self, what: str) -> str:
        """Return the text that the viewer shows."""
        return str(self.page.locator(f"[data-show={what}]").inner_text())

    def place(self) -> tuple[int, ...]:
        """Voxel in the middle."""
        found = re.search(r"z (\d+), y (\d+), x (\d+)", self.text("place"))
        assert found
        return tuple(map(int, found.groups()))

    def nm_per_px(self) -> float:
        """Scale, by the bar of the first pane."""
        bar = self.page.locator(".bar-of-scale").first
        length, unit = bar.inner_text().split()
        px = bar.evaluate("bar => parseFloat(bar.style.getPropertyValue('--length'))")
        return float(length) * (1000 if unit == "µm" else 1) / float(px)


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Viewer]:
    """A report of two volumes, of which the second has no truth."""
    folder = tmp_path_factory.mktemp("report")
    unscored = ArrayLayers(**{name: LAYERS.arrays[name] for name in ("raw", "probability", "segmentation")})
    volumes = [volume("test"), volume("train", unscored)]
    viewer = render_viewer(TEMPLATES / "viewer", volumes, single_file=False)
    counts = {"kind": "split", "object": 7, "size": 90, "wrong": 30, "partners": 2}
    worst = {"test": [{**counts, "centre": [1, 2, 3], "centre_nm": [40.0, 20.0, 30.0]}]}
    (folder / "report.html").write_text(render(TEMPLATES / "report.html.j2", ReportData(viewer=viewer, worst=worst)))
    write_tiles(volumes, folder / "report")
    with browser_page(900, 700) as page:
        page.set_default_timeout(300_000)
        found = Viewer(page, (folder / "report.html").as_uri())
        page.on("console", lambda message: found.errors.append(message.text))
        page.on("pageerror", lambda error: found.errors.append(str(error)))
        page.on("request", lambda request: found.asked.add(request.url))
        yield found


@pytest.fixture
def viewer(opened: Viewer) -> Iterator[Viewer]:
    """The report at its middle; afterwards nothing was complained of, and nothing asked of others."""
    opened.page.set_viewport_size({"width": 900, "height": 700})
    opened.open()
    opened.choose("arrangement", "one")
    opened.open()
    yield opened
    assert opened.errors == []
    folder = opened.address.rpartition("/")[0]
    assert {url for url in opened.asked if not url.startswith((folder, "data:", "about:blank"))} == set()


@pytest.mark.parametrize("plane", PLANES)
def test_a_plane_is_drawn_voxel_by_voxel(viewer: Viewer, plane: str) -> None:
    viewer.open(f"#volume=test&z=7&y=30&x=13&plane={plane}")
    viewer.show(truth=1)
    viewer.page.set_checked("[data-set=cross]", False)
    viewer.do("full")
    [normal] = {0, 1, 2} - set(PLANES[plane])
    drawn = LAYERS.arrays["truth"][..., :3].take((7, 30, 13)[normal], normal)
    if plane == "yz":
        drawn = drawn.swapaxes(0, 1)
    for axis, n in enumerate(PLANES[plane]):
        drawn = drawn.repeat(round(VOXEL_NM[n] / 10), axis)
    seen = viewer.picture()
    start = [
        np.floor(seen.shape[axis] / 2 - ((7, 30, 13)[n] + 0.5) * VOXEL_NM[n] / 10 + 0.5).astype(int)
        for axis, n in enumerate(PLANES[plane])
    ]
    # a pane may begin between two px of the screenshot
    near = [(start[0] + down, start[1] + right) for down in (1, 0, -1) for right in (1, 0, -1)]
    parts = {at: seen[at[0] : at[0] + drawn.shape[0], at[1] : at[1] + drawn.shape[1]] for at in near}
    [(top, left)] = [at for at, part in parts.items() if np.array_equal(part, drawn)]
    assert (seen[top - 1, left : left + 9] == 0).all()  # nothing is drawn outside


def test_layers_lie_over_each_other_with_their_opacity(viewer: Viewer) -> None:
    viewer.show(raw=1, truth=0.5)
    expected = 0.5 * 80 + 0.5 * LAYERS.arrays["truth"][MIDDLE][:3]
    np.testing.assert_allclose(viewer.middle(), expected, atol=3)
    viewer.show(raw=1, errors=1)  # nothing is wrong at x >= 20
    np.testing.assert_allclose(viewer.middle(), [80] * 3, atol=3)
    viewer.show(raw=0.5, probability=0.2)
    np.testing.assert_allclose(viewer.middle(), [0.8 * 40 + 0.2 * 200] * 3, atol=3)


def test_buttons_slider_keys_and_wheel_go_through_the_slices(viewer: Viewer) -> None:
    viewer.show(truth=1)
    viewer.do("on")
    assert viewer.place() == (7, 24, 20)
    viewer.do("back")
    viewer.press(",", ",", ".", "PageDown")
    assert viewer.place()[0] == 11  # the last one
    assert viewer.text("slice") == "11 of 11"
    viewer.press("PageUp")
    assert viewer.place()[0] == 1
    viewer.page.locator("[data-set=slice]").fill("4")
    viewer.settle()
    assert viewer.place()[0] == 4
    assert viewer.middle() == LAYERS.arrays["truth"][4, 24, 20, :3].tolist()
    viewer.page.locator(".pane").focus()
    viewer.page.locator(".pane").hover()
    viewer.page.mouse.wheel(0, 120)
    viewer.until("document.querySelector('[data-show=slice]').innerText.startsWith('5 ')")


def test_zoom_and_moves(viewer: Viewer) -> None:
    viewer.do("full")
    assert viewer.nm_per_px() == pytest.approx(10)
    viewer.do("in")
    assert viewer.nm_per_px() == pytest.approx(10 / 1.5)
    viewer.do("out")
    viewer.press("+", "ArrowRight", "ArrowDown", "ArrowDown")
    assert viewer.nm_per_px() == pytest.approx(8)
    assert viewer.place() == (6, 47, 39)  # 40 px of 8 nm are more than half of the volume
    viewer.press("-", "0")
    assert viewer.place() == (6, 24, 20)
    fitted = viewer.nm_per_px()
    box = viewer.page.locator(".pane").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    viewer.page.mouse.move(x, y)
    viewer.page.mouse.down()
    viewer.page.mouse.move(x - 85 / fitted, y + 55 / fitted)
    viewer.page.mouse.up()
    viewer.settle()
    assert viewer.place() == (6, 18, 28)
    assert "Pointer: z 6, y " in viewer.text("pointer")
    viewer.page.mouse.dblclick(x, y)
    viewer.settle()
    assert viewer.nm_per_px() == pytest.approx(fitted / 2)
    viewer.page.keyboard.down("Control")
    viewer.page.mouse.wheel(0, -300)
    viewer.page.keyboard.up("Control")
    viewer.page.wait_for_timeout(300)
    viewer.settle()
    assert viewer.nm_per_px() < fitted / 2


def test_two_fingers_zoom_and_one_moves(viewer: Viewer) -> None:
    viewer.do("fit")
    fitted = viewer.nm_per_px()
    touch = viewer.page.context.new_cdp_session(viewer.page)
    box = viewer.page.locator(".pane").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    def fingers(kind: str, *places: tuple[float, float]) -> None:
        points = [{"x": px, "y": py, "id": i} for i, (px, py) in enumerate(places)]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    fingers("touchStart", (x - 40, y), (x + 40, y))
    fingers("touchMove", (x - 60, y), (x + 60, y))
    fingers("touchMove", (x - 80, y), (x + 80, y))
    fingers("touchEnd")
    viewer.settle()
    assert viewer.nm_per_px() == pytest.approx(fitted / 2, rel=0.05)
    np.testing.assert_allclose(viewer.place(), MIDDLE, atol=1)
    fingers("touchStart", (x, y))
    fingers("touchMove", (x, y + 100 / viewer.nm_per_px()))
    fingers("touchEnd")
    viewer.settle()
    np.testing.assert_allclose(viewer.place(), (6, 14, 20), atol=1)


def test_panes_stay_in_step(viewer: Viewer) -> None:
    viewer.choose("arrangement", "layers")
    viewer.show(segmentation=1, truth=1, errors=1)
    titles = viewer.page.locator(".pane .title").all_inner_texts()
    assert titles == [f"{name} · xy" for name in LAYERS.names]
    viewer.press(".", ".", "+", "ArrowLeft")
    z, y, x = viewer.place()
    assert (z, y) == (8, 24)
    assert x < 20
    for name in ("segmentation", "truth", "errors"):
        assert viewer.middle(titles.index(f"{name} · xy")) == LAYERS.arrays[name][z, y, x, :3].tolist()
    assert len(set(viewer.page.locator(".bar-of-scale").all_inner_texts())) == 1
    viewer.choose("arrangement", "planes")
    viewer.show(truth=1)
    place = viewer.place()
    assert [viewer.middle(pane) for pane in range(3)] == [LAYERS.arrays["truth"][place][:3].tolist()] * 3
    viewer.choose("arrangement", "one")
    viewer.choose("plane", "yz")
    assert viewer.text("axis") == "x"


def test_flicker_shows_layers_in_turn_and_number_keys_switch_them(viewer: Viewer) -> None:
    viewer.show(raw=1, segmentation=1, truth=1)
    viewer.do("flicker")
    assert viewer.page.get_attribute("[data-do=flicker]", "aria-pressed") == "true"
    wanted = [LAYERS.arrays[name][MIDDLE][:3].tolist() for name in ("segmentation", "truth")]
    seen: list[list[int]] = []
    for _ in range(200):
        seen += [colour for colour in [viewer.middle()] if colour not in seen]
        if len(seen) == 2:
            break
    assert sorted(seen) == sorted(wanted)
    viewer.press("f")
    assert viewer.page.get_attribute("[data-do=flicker]", "aria-pressed") == "false"
    viewer.press("4")
    assert not viewer.page.is_checked("[data-layer=truth] [data-set=shown]")
    assert viewer.middle() == wanted[0]


def test_links_open_their_place_and_the_address_follows(viewer: Viewer) -> None:
    viewer.page.click("#errors a")
    viewer.until("document.querySelector('[data-show=place]').innerText.includes('z 1, y 2, x 3 ')")
    assert viewer.page.is_checked("[data-set=cross]")
    assert viewer.page.evaluate("document.querySelector('.viewer').getBoundingClientRect().top") < 400
    viewer.do("on")
    viewer.until("location.hash === '#volume=test&z=2&y=2&x=3'")
    viewer.choose("volume", "train")
    assert viewer.place() == MIDDLE
    assert viewer.page.locator("[data-layer]:visible").count() == 3
    viewer.until("location.hash === '#volume=train&z=6&y=24&x=20'")
    viewer.open("#volume=unknown&z=1")
    assert viewer.place() == MIDDLE
    assert viewer.page.input_value("[data-set=volume]") == "train"


def test_narrow_screens_print_and_pages_without_scripts(viewer: Viewer) -> None:
    viewer.page.set_viewport_size({"width": 360, "height": 700})
    for arrangement in ("one", "layers", "planes"):
        viewer.choose("arrangement", arrangement)
        assert viewer.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    viewer.page.emulate_media(media="print")
    assert viewer.page.locator(".viewer").is_hidden()
    assert viewer.page.locator(".stills img:visible").count() == 3  # of the volume without a truth there is one
    viewer.page.emulate_media(media="screen")
    assert viewer.page.locator(".stills").is_hidden()


@pytest.mark.parametrize(("scheme", "width"), [("light", 900), ("dark", 900), ("light", 360)])
def test_accessible_by_wcag_aa(viewer: Viewer, scheme: str, width: int) -> None:
    axe = pytest.importorskip("axe_playwright_python", reason="needs axe-playwright-python")
    viewer.page.set_viewport_size({"width": width, "height": 700})
    viewer.page.emulate_media(color_scheme=scheme)
    viewer.page.click("summary")
    viewer.page.evaluate((Path(axe.__path__[0]) / "axe.min.js").read_text())
    found = viewer.page.evaluate(
        "axe.run('#viewer', {runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa']})"
    )
    assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found["violations"]] == []


def test_a_page_without_its_folder_says_so(tmp_path: Path, opened: Viewer) -> None:
    part = render_viewer(TEMPLATES / "viewer", [volume("test")], single_file=False)
    page = opened.page.context.browser.new_page()
    (tmp_path / "alone.html").write_text(render(TEMPLATES / "report.html.j2", ReportData(viewer=part)))
    page.goto((tmp_path / "alone.html").as_uri())
    Viewer(page, "").until("document.querySelector('[data-show=place]').innerText.includes('keep the folder')")
    page.close()


def test_one_file_holds_all_its_tiles(tmp_path: Path, opened: Viewer) -> None:
    part = render_viewer(TEMPLATES / "viewer", [volume("test")], single_file=True)
    (tmp_path / "single.html").write_text(render(TEMPLATES / "report.html.j2", ReportData(viewer=part)))
    viewer = Viewer(opened.page, (tmp_path / "single.html").as_uri())
    viewer.open()
    viewer.show(truth=1)
    assert viewer.middle() == LAYERS.arrays["truth"][MIDDLE][:3].tolist()
    assert opened.errors == []
