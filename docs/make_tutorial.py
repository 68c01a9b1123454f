"""Run the tutorial as it is written, and make its outputs and pictures.

python docs/make_tutorial.py                       the whole tutorial, in a copy of the repository: about ten minutes
python docs/make_tutorial.py --results FOLDER      the pictures alone, from results of the tutorial

1. The commands and the configuration are read from the page, so the page cannot differ from what runs.
2. What a command printed last goes into the `text` block below its comment `output`.
3. The commands that ran are kept in `docs/tutorial/commands.txt`; a test compares them with the page.
4. Pictures are drawn from the stores. The README's picture is one of them.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import tifffile
import zarr
from matplotlib.colors import hsv_to_rgb
from matplotlib.figure import Figure

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "tutorial" / "first-segmentation.md"
RAN = ROOT / "docs" / "tutorial" / "commands.txt"
OUTPUT = re.compile(r"(<!-- output: (\d+) lines of: (.*?) -->\n```text\n)(.*?)(```)", re.DOTALL)
SECTION, HELD_OUT_FROM = 20, 18
"""The section that is shown, and the first one of volume `held_out`."""


def commands(page: str) -> list[str]:
    """Return the commands of a page, in order: the lines of all blocks of language `console`."""
    return [line for block in re.findall(r"^```console\n(.*?)^```$", page, re.M | re.S) for line in block.splitlines()]


def configuration(page: str) -> str:
    """Return the configuration of a page: its only YAML block."""
    (text,) = re.findall(r"^```yaml\n(.*?)^```$", page, re.M | re.S)
    return str(text)


def with_outputs(page: str, printed: dict[str, str]) -> str:
    """Return the page with the last lines that each command printed."""

    def block(match: re.Match[str]) -> str:
        lines = [line.rstrip() for line in printed[match[3]].splitlines() if line.strip()]
        return match[1] + "\n".join(lines[-int(match[2]) :]) + "\n" + match[5]

    return OUTPUT.sub(block, page)


def run_commands(page: str, folder: Path) -> dict[str, str]:
    """Run the commands of a page in a copy of the repository; return what each printed.

    A command that stands there twice is quoted from its first run.
    """
    (folder / "first.yaml").write_text(configuration(page))
    environment = os.environ | {"PYTHONPATH": str(folder)}
    printed: dict[str, str] = {}
    for command in commands(page):
        print(command, flush=True)
        ran = subprocess.run(
            command,
            shell=True,
            cwd=folder,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        if ran.returncode:
            sys.exit(f"{command}\n{ran.stdout}")
        printed.setdefault(command, ran.stdout)
    return printed


def copy_repository(folder: Path) -> None:
    """Copy what a run needs into a new folder."""
    left_out = shutil.ignore_patterns("__pycache__", ".*", "results*", "site", "local")
    shutil.copytree(ROOT, folder, ignore=left_out)


# Pictures


def coloured(ids: np.ndarray, seed: int = 5) -> np.ndarray:
    """Return one colour per id as `(y, x, 3)`, 0 black; ids are dense after `np.unique`."""
    _, dense = np.unique(np.append(0, ids), return_inverse=True)
    random = np.random.default_rng(seed)
    count = int(dense.max())
    colours = hsv_to_rgb(np.stack([random.random(count), 0.45 + 0.4 * random.random(count), np.ones(count)], axis=-1))
    return np.concatenate([np.zeros((1, 3)), colours.reshape(-1, 3)])[dense[1:].reshape(ids.shape)]


def overlaid(grey: np.ndarray, ids: np.ndarray, opacity: float = 0.5) -> np.ndarray:
    """Return grey values with coloured ids on top, `(y, x, 3)` of 0 to 1."""
    background = np.repeat(grey[..., None] / 255, 3, axis=-1)
    return np.where(ids[..., None] > 0, (1 - opacity) * background + opacity * coloured(ids), background)


def panels(pictures: dict[str, np.ndarray], px: int) -> Figure:
    """Return a figure of square pictures side by side, each `px` wide under its title."""
    gap, title = 6, 26
    width, height = len(pictures) * (px + gap) - gap, px + title
    figure = Figure(figsize=(width / 100, height / 100), dpi=100, facecolor="white")
    for number, (name, picture) in enumerate(pictures.items()):
        place = (number * (px + gap) / width, 0, px / width, px / height)
        axes = figure.add_axes(place)
        axes.imshow(picture, cmap="gray", vmin=0, vmax=1, aspect="auto")
        axes.set_axis_off()
        axes.set_title(name, fontsize=11, pad=6)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a figure as WebP."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, pil_kwargs={"quality": 72, "method": 6})


def crop(image: np.ndarray, side: int) -> np.ndarray:
    """Return the upper left square of a section `(y, x)`."""
    return image[:side, :side]


def draw(
    raw: np.ndarray, labels: np.ndarray, probability: np.ndarray, objects: np.ndarray, folder: Path, readme: Path
) -> list[Path]:
    """Draw all pictures from one section `(y, x)` of each store; return where they are.

    Parameters
    ----------
    raw, labels, probability, objects
        Grey values and probability as uint8; ids.
    folder
        Of the tutorial's pictures.
    readme
        The README's picture.
    """
    two_files, held_out = folder / "two-files.webp", folder / "held-out-section.webp"
    save(panels({"raw.tif": raw / 255, "labels.tif": coloured(labels)}, 360), two_files)
    four = {
        "raw": raw / 255,
        "probability": probability / 255,
        "objects": overlaid(raw, objects),
        "annotation": overlaid(raw, labels),
    }
    save(panels(four, 280), held_out)
    three = {name: crop(picture, 320) for name, picture in four.items()}
    save(panels(three, 270), readme)
    return [two_files, held_out, readme]


def pictures(results: Path, inputs: Path, folder: Path, readme: Path) -> list[Path]:
    """Draw the pictures of the tutorial's results; return where they are."""
    section, volume = SECTION - HELD_OUT_FROM, results / "volumes" / "held_out"
    probability = zarr.open_array(volume / "probability.zarr" / "0", mode="r")[-1, section]
    objects = zarr.open_array(volume / "segmentation.zarr" / "0", mode="r")[section]
    raw, labels = (tifffile.imread(inputs / f"{name}.tif", key=SECTION) for name in ("raw", "labels"))
    return draw(raw, labels, np.asarray(probability), np.asarray(objects), folder, readme)


def main() -> None:
    """Run the tutorial and write what it shows into the repository, or draw the pictures alone."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--results", type=Path, help="results of the tutorial, beside the folder results/sample")
    given = parser.parse_args().results
    images, readme = ROOT / "docs" / "tutorial" / "images", ROOT / "docs" / "images" / "sample.webp"
    if given is not None:
        pictures(given, given.parent / "results" / "sample", images, readme)
        return
    page = PAGE.read_text()
    with TemporaryDirectory() as temporary:
        folder = Path(temporary) / "unet-em"
        copy_repository(folder)
        printed = run_commands(page, folder)
        pictures(folder / "results-first", folder / "results" / "sample", images, readme)
    PAGE.write_text(with_outputs(page, printed))
    RAN.write_text("\n".join(commands(page)) + "\n")


if __name__ == "__main__":
    main()
