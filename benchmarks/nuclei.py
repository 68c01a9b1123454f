"""Gain by the weight map on touching nuclei: merges and average precision by `w0`, on the half not learnt from.

    python benchmarks/nuclei.py                                    # w0 of 5 and of 0: two trainings; prints a table
    python benchmarks/nuclei.py --w0 10 0 --seeds 0 1 2 --steps 300

One image of 512 x 512 px (DSB 2018) is learnt on its left half and scored on its right one, by masks; a strip of 48 px
between them belongs to neither. All trainings of a seed are the same but for `w0` of equation 2; 0 is a weight of 1
everywhere. The separation border is drawn in all, as instances that touch could not be told apart without it. Each
probability is segmented by components, as in the paper, at 0.5 and at the threshold that is best on the left half. It
is also segmented by watershed and agglomeration, whose threshold is chosen on the left half, too.
"""

import argparse
import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import starter
import tifffile
from starter import DATA, ROOT, SMALL_NETWORK

SEGMENTATIONS: dict[str, dict[str, Any]] = {
    "components at 0.5": {"threshold": 0.5},
    "components": {"threshold": "auto"},
    "watershed": {"method": "watershed", "watershed": {"expand_px": 1}, "agglomerate": {"threshold": "auto"}},
}
SCORES = (
    "merge_errors",
    "split_errors",
    "average_precision_50",
    "mean_average_precision",
    "adapted_rand_error",
    "objects",
    "true_objects",
)
STRIP = 24


def masks(folder: Path, shape: tuple[int, ...]) -> dict[str, str]:
    """Write a mask file for each half, and return their paths."""
    middle, found = shape[1] // 2, {}
    for name, part in (("train", np.s_[:, : middle - STRIP]), ("validation", np.s_[:, middle + STRIP :])):
        mask = np.zeros(shape, np.uint8)
        mask[part] = 1
        found[name] = str(folder / f"{name}.tif")
        tifffile.imwrite(found[name], mask)
    return found


def configuration(folder: Path, w0: float, seed: int, steps: int) -> dict[str, Any]:
    """Return the settings of one training, without section `segment`."""
    image, labels = (str(DATA / "nuclei" / name) for name in ("img2d.tif", "mask2d.tif"))
    halves = masks(folder, tifffile.imread(image).shape)
    volumes = {
        name: {"raw": image, "labels": labels, "mask": mask, "voxel_size_nm": [1, 1, 1]}
        for name, mask in halves.items()
    }
    return {
        "volumes": volumes,
        "storage": {"block": [1, 256, 256], "chunk": [1, 128, 128]},
        "model": SMALL_NETWORK,
        "weights": {"w0": w0, "class_balance": False, "separation_border": 1},
        "train": {
            "volumes": ["train"],
            "seed": seed,
            "steps": steps,
            "tile": 188,
            "batch": 4,
            "optimizer": "adamw",
            "learning_rate": 0.003,
        },
        "predict": {"volumes": ["train", "validation"], "test_time_augmentation": "flips"},
        "evaluate": {"volumes": ["train", "validation"], "threshold_volumes": ["train"]},
    }


def scores(folder: Path, config: dict[str, Any], cores: int) -> dict[str, Any]:
    """Run the workflow; scores of the half that was not learnt."""
    starter.configure(folder, config, anew=False)
    starter.run(folder, "--cores", str(cores))
    found = starter.scores(folder, "validation")
    return {key: found[key] for key in SCORES}


def main() -> None:
    """Train with each weight and seed, segment each twice, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--w0", type=float, nargs="+", default=[5, 0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--folder", type=Path, default=ROOT / "results-nuclei")
    arguments = parser.parse_args()
    rows = []
    print(f"| w0 | seed | segmentation | {' | '.join(SCORES)} |\n|---|---|---|{'---|' * len(SCORES)}")
    for seed, w0 in product(arguments.seeds, arguments.w0):
        folder = arguments.folder.resolve() / f"w0-{w0:g}-seed-{seed}"
        folder.mkdir(parents=True, exist_ok=True)
        config = configuration(folder, w0, seed, arguments.steps)
        for name, segment in SEGMENTATIONS.items():
            found = scores(folder, {**config, "segment": segment}, arguments.cores)
            rows.append({"w0": w0, "seed": seed, "segmentation": name, **found})
            shown = (f"{v:.4f}" if isinstance(v, float) else str(v) for v in found.values())
            print(f"| {w0:g} | {seed} | {name} | {' | '.join(shown)} |", flush=True)
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
