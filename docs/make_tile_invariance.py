"""Show on one section what the stride of tiles decides: 388 px as in the paper against 384 px, a multiple of 16.

python docs/make_tile_invariance.py          writes the picture and the numbers of the page

1. A section of generated tissue goes through the paper's network: depth 5, tiles of 572 px, 8 channels, random weights,
   logits scaled to a standard deviation of 2.
2. The section is computed at once, as one large tile, mirrored at its faces.
3. It is computed by tiles at a stride of 388 px, and of 384 px, with the same grey values around every voxel.
4. The probabilities are compared with those of the section at once.
"""

import re
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from unet.config.model import ModelConfig
from unet.geometry.mirroring import mirrored_indices
from unet.geometry.tiling import tile_geometry
from unet.network.model import build_model
from unet.training.synthetic import synthesise

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "explanation" / "tile-invariance.md"
PICTURE = ROOT / "docs" / "explanation" / "images" / "tile-invariance.webp"
TILE, OUTPUT, MARGIN = 572, 388, 92
NUMBERS = re.compile(r"(<!-- numbers -->\n).*?(<!-- end of numbers -->)", re.DOTALL)
Probabilities = NDArray[np.float32]


def network(channels: int = 8, seed: int = 0) -> torch.nn.Module:
    """Return the paper's network with few channels and random weights."""
    torch.manual_seed(seed)
    config = ModelConfig(base_channels=channels, dropout=0)
    geometry = tile_geometry(config, TILE)
    assert (geometry.output[1], geometry.margin[1], geometry.stride[1]) == (OUTPUT, MARGIN, 384)
    return build_model(config, 1, 2).eval()


def logits_of(model: torch.nn.Module, section: NDArray, start: tuple[int, int], side: int) -> Probabilities:
    """Return the logits of class 1 over class 0, `(y, x)`, of one tile whose output starts at `start`.

    Parameters
    ----------
    section
        Grey values `(y, x)`, mirrored beyond the faces.
    side
        Input side of the tile in px.
    """
    rows, columns = (
        mirrored_indices(o - MARGIN, o - MARGIN + side, n) for o, n in zip(start, section.shape, strict=True)
    )
    tile = torch.from_numpy(section[np.ix_(rows, columns)])[None, None]
    with torch.inference_mode():
        logits = model(tile)[0]
    result: Probabilities = (logits[1] - logits[0]).numpy()
    return result


def tiled(model: torch.nn.Module, section: NDArray, stride: int) -> Probabilities:
    """Return the logits of a section, computed by tiles of 572 px that lie `stride` px apart."""
    result = np.zeros(section.shape, np.float32)
    height, width = section.shape
    for y in range(0, height, stride):
        for x in range(0, width, stride):
            part = result[y : y + stride, x : x + stride]
            part[:] = logits_of(model, section, (y, x), TILE)[: part.shape[0], : part.shape[1]]
    return result


def compared(size: int = 2 * OUTPUT, strides: tuple[int, ...] = (388, 384)) -> tuple[Probabilities, dict[int, NDArray]]:
    """Return the probabilities of a section computed at once, and the absolute differences from them by stride."""
    model = network()
    grey = synthesise(sections=1, size=size, seed=2)[0][0].astype(np.float32)
    section = (grey - grey.mean()) / grey.std()
    side = next(n for n in range(size + 2 * MARGIN, 2 * size) if n % 16 == TILE % 16)  # 16 b + 60
    whole = logits_of(model, section, (0, 0), side)[:size, :size]
    scale = 2 / float(whole.std())

    def probability(logits: Probabilities) -> Probabilities:
        result: Probabilities = 1 / (1 + np.exp(-scale * (logits - whole.mean())))
        return result

    at_once = probability(whole)
    return at_once, {stride: np.abs(probability(tiled(model, section, stride)) - at_once) for stride in strides}


def draw(at_once: Probabilities, differences: dict[int, NDArray], path: Path) -> None:
    """Draw the probabilities of the section at once, and the differences by stride."""
    pictures = {"section at once": at_once} | {f"difference, stride {n}": values for n, values in differences.items()}
    figure = Figure(figsize=(9.6, 3.5), dpi=100, facecolor="white")
    for number, (name, values) in enumerate(pictures.items()):
        axes = figure.add_axes((number / 3 + 0.004, 0.02, 0.325, 0.88))
        axes.imshow(values[::2, ::2], cmap="gray" if number == 0 else "magma", vmin=0, vmax=1 if number == 0 else 0.5)
        axes.set_axis_off()
        axes.set_title(name, fontsize=11)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, pil_kwargs={"quality": 60, "method": 6})


def table(differences: dict[int, NDArray]) -> str:
    """Return the page's table."""
    head = "| stride | largest difference | voxels that differ by more than 1/255 |\n|---|---|---|\n"
    return head + "".join(
        f"| {stride} px | {values.max():.2g} | {(values > 1 / 255).mean():.1%} |\n".replace("%", " %")
        for stride, values in differences.items()
    )


def main() -> None:
    """Write the picture, and the numbers into the page."""
    at_once, differences = compared()
    draw(at_once, differences, PICTURE)
    PAGE.write_text(NUMBERS.sub(lambda match: match[1] + "\n" + table(differences) + "\n" + match[2], PAGE.read_text()))
    print(table(differences), end="")


if __name__ == "__main__":
    main()
