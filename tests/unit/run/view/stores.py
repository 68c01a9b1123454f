"""A small volume of a run with its stores, as the rules leave them, for tests of what is shown of it."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from unet.config.root import Config, load_config
from unet.evaluation.contingency import contingency
from unet.storage.files import save_arrays, write_json
from unet.volumes.layout import VolumeLayout
from unet.volumes.volume import Volume

SHAPE, BLOCK, CHUNK = (6, 40, 36), (4, 32, 32), (2, 16, 16)
VOXEL_NM, OFFSET_NM = (40.0, 4.0, 8.0), (120.0, 20.0, 48.0)


def arrays() -> dict[str, np.ndarray]:
    """Grey values, truth of two objects, and a segmentation that splits the first and merges a part of the second.

    Sections are divided along x. Truth 1 is predicted as 5 and 6; 6 also takes a part of truth 2, whose rest is 7:

        x       0 ... 11   12 ... 17   18 ... 21   22 ... 35
        truth      1           1           2           2
        found      5           6           6           7
    """
    raw = np.random.default_rng(0).integers(20, 236, SHAPE).astype(np.uint8)
    x = np.broadcast_to(np.arange(SHAPE[2]), SHAPE)
    truth = np.where(x < 18, 1, 2).astype(np.uint32)
    found = np.select([x < 12, x < 22], [5, 6], 7).astype(np.uint32)
    probability = np.stack([255 - raw, raw])
    return {"raw": raw, "labels": truth, "segmentation": found, "probability": probability}


def write_store(volume: Volume, name: str, values: np.ndarray) -> None:
    """Write a store block by block."""
    kind: Any = "label" if name in ("labels", "segmentation") else "image"
    channels = ("membrane", "interior") if values.ndim == 4 else ()
    image = volume.create(name, str(values.dtype), kind, channels)
    for box in image.grid.boxes():
        image.write_block(box, values[(..., *box.slices)])


def write_run(folder: Path, stores: dict[str, np.ndarray], **sections: Any) -> Config:
    """Write a run of one volume `v` with these stores; return its configuration."""
    volumes = {"v": {"raw": "raw.tif", "labels": "labels.tif", **sections.pop("volume", {})}}
    given = {"train": {"volumes": ["v"]}, "predict": {"volumes": ["v"]}, "segment": {"connectivity": "volume"}}
    config = load_config({"results": str(folder), "volumes": volumes, **given, **sections})
    layout = VolumeLayout(SHAPE, "uint8", VOXEL_NM, OFFSET_NM, CHUNK, BLOCK, "uint32", False)
    survey = folder / "receipts" / "survey" / "v.json"
    write_json(survey, {"rule": "survey", "layout": asdict(layout)})
    volume = Volume.open(folder / "volumes" / "v", survey)
    for name, values in stores.items():
        write_store(volume, name, values)
    if {"labels", "segmentation"} <= stores.keys():
        table = contingency(stores["labels"], stores["segmentation"])
        save_arrays(volume.folder / "overlap.npz", vars(table))
        counts = {"size": 4320, "wrong": 1440, "partners": 2}
        worst = [
            {"kind": "split", "object": 1, "centre": [2, 19, 14], **counts},
            {"kind": "merge", "object": 6, "centre": [1, 20, 19], **counts},
        ]
        write_json(volume.folder / "evaluation.json", {"worst": worst})
    return config
