"""Open the stores of a volume in napari: images, and labels on top of them, at their scale and position.

    python -m unet.run.view.napari_layers results/volumes/test

The plugin napari-ome-zarr opens a single store, too, but reads no translation (version 0.10).
"""

import argparse
from pathlib import Path
from typing import Any

from unet.storage.zarr_store import Image, StoreError, level_arrays, open_image

STORES = ("raw", "probability", "labels", "segmentation")
"""Stores that are shown, the lowest first."""
VISIBLE = ("raw", "segmentation")
"""Stores that can be seen at first."""
LayerData = tuple[list[Any], dict[str, Any], str]
"""Levels of an array, keywords of a layer, and its type, as napari's readers return them."""


def napari_layers(folder: Path) -> list[LayerData]:
    """Return the stores in the folder of a volume as layers of napari. Voxels are read when they are shown.

    Parameters
    ----------
    folder : Path
        Folder of the volume, such as `results/volumes/test`.

    Raises
    ------
    StoreError
        If no store is there.
    """
    found = []
    for name in STORES:
        try:
            found.append(_layer(name, open_image(folder / f"{name}.zarr")))
        except StoreError:
            continue
    if not found:
        raise StoreError(f"{folder}: there is none of the stores {', '.join(STORES)}; name the folder of a volume")
    return found


def _layer(name: str, image: Image) -> LayerData:
    import dask.array

    spec, levels = image.spec, [dask.array.from_zarr(array) for array in level_arrays(image)]
    keywords: dict[str, Any] = {
        "name": name,
        "scale": spec.voxel_size_nm,
        "translate": spec.offset_nm,
        "units": ("nm",) * 3,
        "axis_labels": ("z", "y", "x"),
        "visible": name in VISIBLE,
    }
    if spec.kind == "label":
        return levels, keywords | {"opacity": 0.4}, "labels"
    if spec.channels:
        names = [f"{name} {channel}" for channel in spec.channels]
        keywords |= {"channel_axis": 0, "name": names, "visible": [keywords["visible"]] * len(names)}
    return levels, keywords, "image"


def main() -> None:
    """Open a window with the volume of the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="folder of a volume, such as results/volumes/test")
    layers = napari_layers(parser.parse_args().folder)
    import napari

    viewer = napari.Viewer()
    for data, keywords, kind in layers:
        getattr(viewer, f"add_{kind}")(data, **keywords)
    napari.run()


if __name__ == "__main__":
    main()
