"""Check a finished volume against its promises, and fail loudly where it does not hold them.

1. Every block on disk still has the digest under which it was recorded.
2. Random windows, half of them across block borders, are inferred again and compared with what is stored.
"""

import logging
from pathlib import Path
from typing import Any

import numpy as np

from unet.config import PredictConfig, VerifyConfig
from unet.devices import LOCKS, torch_device
from unet.geometry import Box, Grid
from unet.grey_values import Normalisation
from unet.inference import Predictor, quantise
from unet.job import run
from unet.predicting import load_predictor, stored_classes
from unet.progress import Progress
from unet.receipts import Journal, bytes_digest, read_json, write_json
from unet.store import Image, StoreError
from unet.volume import Volume

FLOAT_TOLERANCE = 1e-5
LEVEL_TOLERANCE = 1
"""Grey levels of uint8."""

log = logging.getLogger(__name__)


def main(
    surveys: list[Path],
    grey_values: list[Path],
    model: Path,
    predicted: list[Path],
    receipt: Path,
    results: Path,
    predict: PredictConfig,
    verify: VerifyConfig,
    threads: int = 1,
) -> None:
    """Write the largest difference found in every volume, or fail."""
    digest = bytes_digest(model.read_bytes())
    found = {}
    with torch_device(LOCKS) as device:
        for survey, values in zip(surveys, grey_values, strict=True):
            source = Volume.open(results / "volumes" / survey.stem, survey)
            image = source.image("probability")
            _check_digests(source, image, [path for path in predicted if path.parent.name == source.name])
            normalisation = Normalisation.of(read_json(values)["statistics"])
            predictor, header = load_predictor(model, predict, normalisation, source.layout, device, threads)
            _check_model(image, header)
            found[source.name] = _largest_difference(source, image, predictor, predict, verify)
    write_json(receipt, {"rule": "verify", "digest": digest, "largest_difference": found})


def _largest_difference(
    source: Volume, image: Image, predictor: Predictor, predict: PredictConfig, verify: VerifyConfig
) -> float:
    """Infer random windows again; the largest difference from what is stored, if it is within the tolerance."""
    tolerance = LEVEL_TOLERANCE if predict.dtype == "uint8" else FLOAT_TOLERANCE
    raw, windows, worst = source.image("raw"), windows_to_check(image.grid, verify), 0.0
    progress = Progress(f"verify {source.name}", len(windows), "windows")
    for window in windows:
        tissue = source.tissue(window)
        fresh = quantise(predictor.predict_box(raw, window)[-len(image.spec.channels) :], predict.dtype)
        fresh = fresh if tissue is None else fresh * tissue
        difference = float(np.abs(fresh.astype(np.float64) - image.read(window)).max())
        if difference > tolerance:
            raise StoreError(
                f"{image.path}: in window {window} the stored probability differs from the model's by {difference:g}, "
                f"more than the {tolerance:g} allowed; remove {image.path} and its receipts, and run again"
            )
        worst = max(worst, difference)
        progress.advance(1)
    log.info("%s: %d windows, largest difference %g", source.name, len(windows), worst)
    return worst


def _check_model(image: Image, header: dict[str, Any]) -> None:
    wanted = tuple(stored_classes(header["classes"]))
    if image.spec.channels != wanted:
        raise StoreError(f"{image.path}: holds classes {image.spec.channels}, but the model gives {wanted}")


def _check_digests(source: Volume, image: Image, receipts: list[Path]) -> None:
    """Compare the files of every block of every shard with the journal of the job that wrote them."""
    for receipt in receipts:
        made_from = read_json(receipt)["fingerprint"]
        boxes = source.blocks(receipt.stem)
        recorded = Journal.beside(receipt).recorded(dict.fromkeys(boxes, made_from))
        for box in boxes:
            if box not in recorded:
                raise StoreError(f"{receipt}: block {box} is not recorded in a journal; remove {receipt} and run again")
            if image.digest(box) != recorded[box].digest:
                raise StoreError(
                    f"{image.path}: block {box} is not what was written (or is missing); remove {receipt} and run again"
                )


def windows_to_check(grid: Grid, verify: VerifyConfig) -> list[Box]:
    """Windows of `side` px: the odd ones anywhere, the even ones centred on a corner between blocks."""
    rng = np.random.default_rng(verify.seed)
    boxes = []
    for number in range(verify.windows):
        z = int(rng.integers(grid.shape[0]))
        centre = [int(rng.integers(n)) for n in grid.shape[1:]]
        if number % 2 == 0:
            centre = [
                int(rng.integers(1, count)) * block if count > 1 else c
                for c, count, block in zip(centre, grid.counts[1:], grid.block[1:], strict=True)
            ]
        start = (z, *(max(0, c - verify.side // 2) for c in centre))
        boxes.append(Box(start, (z + 1, start[1] + verify.side, start[2] + verify.side)).clipped(grid.shape))
    return boxes


if __name__ == "__main__":
    run(main, globals().get("snakemake"))
