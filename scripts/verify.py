"""Check a finished run against its guarantees, and fail if one does not hold.

Inputs: all stores and journals of a run, the model file.

Outputs: a receipt, and a section of the report.

1. Compare the digest of every block on disk, of every store and table, with the digest in the journal. Read every
   receipt and merge table, and compare the tables of objects with their receipts.
2. Predict crops again: across borders of blocks and block ranges, at the volume's faces, and at random positions. Each
   crop is predicted with the same tiles and with tiles of another size, and compared with the stored probabilities.
3. Compare the differences of probability across block borders with the differences beside the borders.
"""

import logging
import time
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet.config.model import ModelConfig
from unet.config.predict import PredictConfig
from unet.config.verify import VerifyConfig
from unet.geometry.box import Box
from unet.geometry.tiling import alternative_tile, tile_geometry
from unet.jobs.blockwise import digest_of_block
from unet.jobs.devices import LOCK_FOLDER, torch_device
from unet.jobs.journal import Journal
from unet.jobs.log_line import format_values
from unet.jobs.progress import Progress
from unet.jobs.script import run_script
from unet.network.load_predictor import OutOfMemoryRetryPredictor, load_predictor
from unet.network.output_channels import stored_channels
from unet.run.report.inserted_sections import insert_section
from unet.run.report.verify_section import VolumeChecks, render_verify_section
from unet.run.rules import intermediate_rules, result_rules
from unet.run.verification import crops_to_check, seams
from unet.segmentation.merge_table import load_merge_table
from unet.storage.digests import bytes_digest, receipts_digest
from unet.storage.files import read_json, write_atomically, write_receipt
from unet.storage.zarr_store import Image, StoreError
from unet.volumes.integrity import blocks_of_receipt, unreadable_receipts
from unet.volumes.intensity import Normalisation
from unet.volumes.volume import Volume

TOLERANCE = {"uint8": 1.0, "float32": 1e-5}
"""Largest allowed difference of a stored probability, by its dtype: in steps of 1/255, or as a probability."""
UNIT = {"uint8": "of 255", "float32": ""}
"""Unit of a difference, by the dtype of the store."""

log = logging.getLogger(__name__)


def main(
    surveys: list[Path],
    intensity_statistics: list[Path],
    model: Path,
    predicted: list[Path],
    receipt: Path,
    results: Path,
    template: Path,
    predict: PredictConfig,
    verify: VerifyConfig,
    threads: int = 1,
) -> None:
    """Write the results of all checks to `receipt` and into the report, or raise an error."""
    for damaged, problem in unreadable_receipts(results):
        raise StoreError(f"{damaged}: {problem}; remove {damaged} and run again")
    found = {}
    with torch_device(LOCK_FOLDER) as device:
        for survey, values in zip(surveys, intensity_statistics, strict=True):
            source = Volume.open(results / "volumes" / survey.stem, survey)
            image, blocks = source.image("probability"), _check_digests(source, results / "receipts")
            _check_files(source, results / "receipts")
            normalisation = Normalisation.of(read_json(values)["statistics"])
            predictor, header = load_predictor(model, predict, normalisation, source, device, threads)
            _check_model(image, header)
            block_ranges = [path.stem for path in predicted if path.parent.name == source.name]
            crops = crops_to_check(image.grid, block_ranges, verify.crop_px, verify.crops, verify.seed)
            config = ModelConfig(**header["model"])
            same, other = _differences(source, image, predictor, config, crops)
            seam = seams(image, verify.seed).score
            kinds = dict(Counter(kind for kind, _ in crops))
            found[source.name] = VolumeChecks(blocks, kinds, same, other, seam, UNIT[predict.dtype])
            log.info("%s: %s", source.name, format_values(asdict(found[source.name])))
    when = time.strftime("%Y-%m-%d %H:%M:%S")
    checks = {name: asdict(checks) for name, checks in found.items()}
    write_receipt(receipt, {"rule": "verify", "digest": receipts_digest(predicted), "when": when, "checks": checks})
    page = results / "report.html"
    if page.exists():
        section = render_verify_section(template.read_text(), found, when)
        write_atomically(page, insert_section(page.read_text(), "checks", section).encode())


def _differences(
    source: Volume,
    image: Image,
    predictor: OutOfMemoryRetryPredictor,
    model: ModelConfig,
    crops: list[tuple[str, Box]],
) -> tuple[float, float]:
    """Return the largest differences from the stored probability, with the same tiles and with other tiles."""
    first = predictor.first
    other = replace(first, geometry=tile_geometry(model, alternative_tile(model, first.geometry.input)))
    worst = {"the same tiles": 0.0, "tiles of another size": 0.0}
    raw = source.raw_without_blanks(first.normalisation)
    progress = Progress(f"verify {source.name}", len(crops), "crops")
    for kind, crop in crops:
        tissue = source.tissue_mask(crop, first.normalisation, bridge_single_sections=model.sees_sections)
        for how, predict_box in zip(worst, (predictor.predict_box, other.predict_box), strict=True):
            difference = _difference(image, predict_box(raw, crop), tissue, crop)
            # bfloat16 rounds at 3e-3, and differently for tiles of another shape
            bound = TOLERANCE[image.spec.dtype] if how == "the same tiles" or first.precision == "float32" else np.inf
            if difference > bound:
                raise StoreError(
                    f"{image.backend}: in crop {crop} ({kind}) the stored probability differs from the model's, with "
                    f"{how}, by {difference:g}, more than the {bound:g} allowed; remove {image.backend} and run again"
                )
            worst[how] = max(worst[how], difference)
        progress.advance(1)
    return worst["the same tiles"], worst["tiles of another size"]


def _difference(image: Image, fresh: np.ndarray, tissue: NDArray[np.bool_] | None, crop: Box) -> float:
    """Return the largest difference of a fresh prediction from the stored probability."""
    fresh = fresh if tissue is None else fresh * tissue
    return float(np.abs(fresh.astype(np.float64) - image.read(crop)).max())


def _check_model(image: Image, header: dict[str, Any]) -> None:
    """Raise an error if the store holds other channels than the model predicts."""
    wanted = tuple(stored_channels(header["classes"]))
    if image.spec.channels != wanted:
        raise StoreError(f"{image.backend}: holds {image.spec.channels}, but the model gives {wanted}")


def _check_digests(source: Volume, receipts: Path) -> int:
    """Compare the files of every block with the journal of the job that wrote them; return the number of blocks.

    Blocks of fragments and tables that no journal knows are of an earlier division into blocks, which nobody reads.
    """
    results, between = result_rules(), intermediate_rules()
    found = [
        path
        for rule in (*results, *between)
        for path in sorted((receipts / rule / source.name).glob("**/*-of-*.json"))
        if "stores" in read_json(path)
    ]
    blocks = 0
    progress = Progress(f"read {source.name}", sum(len(blocks_of_receipt(source, path)) for path in found), "blocks")
    for receipt in found:
        stores = [source.store_named(name) for name in read_json(receipt)["stores"]]
        rule, boxes = receipt.relative_to(receipts).parts[0], blocks_of_receipt(source, receipt)
        recorded = Journal.of_receipt(receipt).latest(boxes)
        for box in boxes:
            if box not in recorded and rule in between:
                continue
            if box not in recorded:
                raise StoreError(f"{receipt}: block {box} is not recorded in a journal; remove {receipt} and run again")
            if digest_of_block(stores, box) != recorded[box].digest:
                names = " and ".join(f"{source.address or source.folder}/{store.name}" for store in stores)
                raise StoreError(
                    f"{names}: block {box} is not what was written (or is missing); remove {receipt} and run again"
                )
            blocks += 1
            progress.advance(1)
    return blocks


def _check_files(source: Volume, receipts: Path) -> None:
    """Read the merge tables of a volume, and compare its tables of objects with their receipt."""
    for store in ("labels", "segmentation"):
        if (table := source.merge_table(store)).is_dir():
            load_merge_table(table)
    receipt = receipts / "objects" / source.name / "all.json"
    for name, digest in (read_json(receipt)["digests"] if receipt.exists() else {}).items():
        path = source.folder / name
        if bytes_digest(path.read_bytes()) != digest:
            raise StoreError(f"{path}: is not what was written; remove {receipt} and run again")


if __name__ == "__main__":
    run_script(main, globals().get("snakemake"))
