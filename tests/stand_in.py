"""A stand-in for the real volumes of ``../shared/data``: the same files and layouts, cut out of a generated volume.

Tests of real data run on it everywhere, and on the real volumes where these lie beside the checkout. What is committed
is ``tests/data/sample.npz``: 5 sections of 192 x 192 px of EM-like grey values and the cell of each pixel, which no
licence restricts. ``python -m tests.stand_in`` makes the file anew.

```
isbi2012/train-volume.tif, train-labels.tif    sections; 255 inside cells, 0 membrane
fib25/train.h5, validation.h5                  volumes/raw, volumes/labels/neuron_ids (bodies touch, 0 = ignore),
                                               volumes/peers/ffn (few bodies are split), oversegmentation (most are)
vnc/stack1/raw, labels, membranes, ...         a file per section; classes 0 to 255, masks with grey edges
nuclei/img2d.tif, mask2d.tif                   one bright-on-dark section with instances
```
"""

from pathlib import Path

import h5py
import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray
from scipy import ndimage

SHARED = Path(__file__).parents[1].parent / "shared" / "data"
"""The real volumes, if they lie beside the checkout."""
SAMPLE = Path(__file__).parent / "data" / "sample.npz"
SECTIONS, SIDE = 5, 192


def make_sample() -> None:
    """Write `SAMPLE` with the project's generator."""
    from unet.training.synthetic import synthesise

    raw, cells = synthesise(sections=SECTIONS, size=SIDE, seed=3)
    SAMPLE.parent.mkdir(exist_ok=True)
    np.savez_compressed(SAMPLE, raw=raw, cells=cells.astype(np.uint16))


def write_stand_in(folder: Path) -> None:
    """Write the files below a folder."""
    with np.load(SAMPLE) as file:
        raw, cells = file["raw"], file["cells"].astype(np.uint32)
    _write_isbi2012(folder / "isbi2012", raw, cells)
    for number, name in enumerate(("train", "validation")):
        _write_fib25(folder / "fib25" / f"{name}.h5", np.flip(raw, number), np.flip(cells, number))
    _write_vnc(folder / "vnc" / "stack1", raw, cells)
    _write_nuclei(folder / "nuclei", raw[0], cells[0])


def _write_isbi2012(folder: Path, raw: NDArray, cells: NDArray) -> None:
    folder.mkdir(parents=True)
    for name, values in (("train-volume", raw), ("train-labels", np.where(cells > 0, 255, 0).astype(np.uint8))):
        tifffile.imwrite(folder / f"{name}.tif", values, photometric="minisblack")


def _write_fib25(path: Path, raw: NDArray, cells: NDArray) -> None:
    """Bodies are grown until they touch; a strip at the far face of x is nobody's."""
    nearest = ndimage.distance_transform_edt(cells == 0, return_distances=False, return_indices=True)
    bodies = cells[tuple(nearest)].astype(np.uint64)
    bodies[..., -8:] = 0
    z, y, x = np.indices(cells.shape)
    over = bodies + np.uint64(1000) * (bodies > 0) * (y // 40 + 10 * (x // 40)).astype(np.uint64)
    ffn = bodies + np.uint64(1000) * ((bodies % 8 == 1) & (z > 2)).astype(np.uint64)
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, values in {
            "raw": raw,
            "labels/neuron_ids": bodies,
            "peers/ffn": ffn,
            "peers/oversegmentation": over,
        }.items():
            one = file.create_dataset(f"volumes/{name}", data=values)
            one.attrs["resolution"], one.attrs["offset"] = (10, 10, 10), (1600, 0, 0)


def _write_vnc(folder: Path, raw: NDArray, cells: NDArray) -> None:
    """Membranes have classes by direction, some cells are glia; mitochondria are dark blobs within cells."""
    y, _ = np.indices(cells.shape[1:])
    names = ("raw", "labels", "membranes", "mitochondria", "synapses")
    for name in names:
        (folder / name).mkdir(parents=True)
    for z, (grey, ids) in enumerate(zip(raw, cells, strict=True)):
        inner = ndimage.distance_transform_edt(ids > 0) > 5
        dark = ndimage.gaussian_filter(grey.astype(float), 2) < 110
        mitochondria = ndimage.binary_opening(inner & dark, iterations=2)
        classes = np.where(ids > 0, 255, y // 48 * 32).astype(np.uint8)
        classes[mitochondria], classes[(ids > 0) & (ids % 9 == 2)] = 191, 159
        tifffile.imwrite(folder / "raw" / f"{z:02}.tif", grey)
        edges = np.where(mitochondria, 255, np.where(ndimage.binary_dilation(mitochondria), 90, 0)).astype(np.uint8)
        masks = {"labels": classes, "membranes": np.where(ids == 0, 255, 0).astype(np.uint8), "mitochondria": edges}
        masks["synapses"] = np.where((ids == 0) & (y % 64 < 5), 255, 0).astype(np.uint8)
        for name, values in masks.items():
            (folder / name / f"{name}{z:08}.png").write_bytes(imagecodecs.png_encode(values))


def _write_nuclei(folder: Path, grey: NDArray, ids: NDArray) -> None:
    folder.mkdir(parents=True)
    bright = np.where(ids > 0, 150.0, 10.0) + grey / 8
    tifffile.imwrite(folder / "img2d.tif", ndimage.gaussian_filter(bright, 1).astype(np.uint8))
    tifffile.imwrite(folder / "mask2d.tif", ids.astype(np.uint16))


if __name__ == "__main__":
    make_sample()
