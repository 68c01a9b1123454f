"""Predict a shard of a volume by overlap tiles: blocks are read, inferred and written side by side.

Each finished block is recorded, so a killed job redoes only the blocks that were in flight.
"""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unet.blockwise import ShardJob
from unet.config import PredictConfig
from unet.devices import LOCKS, torch_device
from unet.geometry import Box
from unet.grey_values import Normalisation
from unet.inference import quantise
from unet.job import run
from unet.pipeline import run_pipeline
from unet.predicting import load_predictor, stored_classes
from unet.receipts import bytes_digest, fingerprint, read_json
from unet.volume import Volume

log = logging.getLogger(__name__)


def main(
    survey: Path,
    grey_values: Path,
    model: Path,
    receipt: Path,
    folder: Path,
    shard: str,
    predict: PredictConfig,
    code: str,
    threads: int = 1,
) -> None:
    """Write the blocks of `shard` to `probability.zarr`."""
    source = Volume.open(folder, survey)
    raw = source.image("raw")
    with torch_device(LOCKS) as device:
        values = read_json(grey_values)
        normalisation = Normalisation.of(values["statistics"])
        predictor, header = load_predictor(model, predict, normalisation, source.layout, device, threads)
        channels = stored_classes(header["classes"])
        image = source.create("probability", predict.dtype, channels=channels)
        made_from = fingerprint(
            raw=values["digest"],
            model=bytes_digest(model.read_bytes()),
            tile=predictor.geometry.input,
            batch=predict.batch,
            average=predict.average,
            precision=predictor.precision,
            dtype=predict.dtype,
            code=code,
        )

        def read(box: Box) -> Any:
            tissue = source.tissue(box)
            return None if tissue is not None and not tissue.any() else predictor.read(raw, box)

        def infer(window: Any, box: Box) -> np.ndarray:
            if window is None:
                return np.zeros((len(channels), *box.shape), image.dtype)
            return quantise(predictor.infer(window, box)[-len(channels) :], predict.dtype)

        def write(probabilities: np.ndarray, box: Box) -> str:
            tissue = source.tissue(box)
            return image.write_block(box, probabilities if tissue is None else probabilities * tissue)

        blocks, how = source.blocks(shard), {"workers": predict.workers, "window": predict.blocks_in_flight}
        with ShardJob("predict", blocks, [image], receipt=receipt, fingerprint=made_from) as job:
            run_pipeline(job.waiting, read, infer, write, done=lambda box, digest: job.keep(box, (digest, {})), **how)
            job.finish(run={"device": _name(device), "threads": threads})


def _name(device: torch.device) -> str:
    return "cpu" if device.type == "cpu" else torch.cuda.get_device_name(device)


if __name__ == "__main__":
    run(main, globals().get("snakemake"))
