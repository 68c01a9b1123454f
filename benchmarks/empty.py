"""Cost of empty space: a volume of which nine tenths are outside the mask, or of one grey value, against a full one.

    python benchmarks/empty.py

The same script as the rule `predict`, on 16 x 4096 x 4096 voxels; prints the time of each as a share of the full one. A
tile that touches tissue is computed whole, so the smaller the tissue, the more its border counts.
"""

import argparse
import json
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from starter import script

from unet.config.model import ModelConfig
from unet.config.predict import PredictConfig
from unet.config.slurm import SlurmConfig
from unet.network.model import build_model
from unet.network.model_file import save_model
from unet.storage.files import write_json
from unet.volumes.histogram import histogram
from unet.volumes.intensity import intensity_statistics
from unet.volumes.layout import VolumeLayout
from unet.volumes.volume import Volume

CHUNK, BLOCK = (8, 128, 128), (16, 1024, 1024)
MODEL = ModelConfig(depth=4, base_channels=16, dropout=0)


def made(folder: Path, raw: np.ndarray, mask: np.ndarray | None) -> dict[str, Any]:
    """Write a volume as ingest leaves it, and return the arguments of its prediction."""
    layout = VolumeLayout(raw.shape, "uint8", (50, 4, 4), (0, 0, 0), CHUNK, BLOCK, None, mask is not None)
    survey, values, stores = folder / "survey.json", folder / "grey.json", folder / "train"
    statistics = vars(intensity_statistics(histogram(raw), raw.dtype))
    write_json(survey, {"layout": vars(layout)})
    write_json(values, {"statistics": [statistics], "digest": "0"})
    volume = Volume.open(stores, survey)
    for name, array in {"raw": raw, "mask": mask}.items():
        if array is not None:
            image = volume.create(name, "uint8", kind="label" if name == "mask" else "image")
            for box in layout.grid.boxes():
                image.write_block(box, np.ascontiguousarray(array[box.slices]))
    return {
        "survey": survey,
        "intensity_statistics": values,
        "folder": stores,
        "receipt": folder / "receipts" / "0-of-1.json",
    }


def seconds(arguments: dict[str, Any], model: Path) -> float:
    """Return the time of the prediction."""
    begin = time.perf_counter()
    predict = PredictConfig(dashboard=False)
    elsewhere = {"slurm": SlurmConfig(), "worker_logs": model.parent}
    script("predict")(**arguments, **elsewhere, model=model, block_range="0-of-1", predict=predict, code="", threads=2)
    return time.perf_counter() - begin


def main() -> None:
    """Predict the three volumes and print the shares."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", type=int, nargs=3, default=(16, 4096, 4096))
    shape = tuple(parser.parse_args().shape)
    raw = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    tissue = np.zeros(shape, np.uint8)
    tissue[:, : shape[1] // 2, : shape[2] // 5] = 1  # a tenth, in one corner, ending within a block
    with TemporaryDirectory() as name:
        folder, model = Path(name), Path(name) / "model.pt"
        torch.manual_seed(0)
        save_model(model, build_model(MODEL), MODEL, ["membrane", "interior"], normalisation={})
        full = made(folder / "full", raw, None)
        times = {"full": seconds(full, model)}
        times["masked"] = seconds(made(folder / "masked", raw, tissue), model)
        times["one grey value"] = seconds(
            made(folder / "constant", np.where(tissue, raw, 0).astype(np.uint8), None), model
        )
    shares = {name: value / times["full"] for name, value in times.items()}
    for name, value in times.items():
        print(f"{name:<16}{value:8.1f} s {shares[name]:6.1%}")
    print(json.dumps(shares))


if __name__ == "__main__":
    main()
