"""Two predictions side by side on a machine without a GPU, against one after the other: nothing oversubscribes.

    python benchmarks/workstation.py

Both are whole runs of Snakemake with the cores of this machine: `--resources gpu=2`, where each of two jobs gets half
of the cores, and `--resources gpu=1`, where one job after the other gets them all. They alternate; quoted is the ratio
of the medians, side by side over one after the other. The same voxels have to come out.
"""

import argparse
import json
import shutil
from pathlib import Path
from statistics import median
from typing import Any

import starter
from starter import ROOT, SAMPLE, SMALL_NETWORK

CONFIG: dict[str, Any] = {
    "volumes": {"train": SAMPLE},
    "storage": {"chunk": [1, 128, 128], "block": [4, 256, 256]},
    "model": SMALL_NETWORK,
    "train": {"steps": 10, "tile": 188, "batch": 2, "optimizer": "adamw"},
    "predict": {"tile": 316, "dashboard": False},
}


def configuration(sections: int) -> dict[str, Any]:
    """Return `CONFIG` for so many sections, half of them a job."""
    predict = CONFIG["predict"] | {"job_voxels": sections // 2 * 512 * 512}
    return CONFIG | {"sample": {"sections": sections, "size": 512}, "predict": predict}


def predicted(folder: Path, at_once: int) -> tuple[float, list[str]]:
    """Predict both block ranges anew with so many jobs at once; seconds, and the digests of the block ranges."""
    shutil.rmtree(folder / "results/receipts/predict", ignore_errors=True)
    shutil.rmtree(folder / "results/volumes/train/probability.zarr", ignore_errors=True)
    receipts = [starter.receipt(folder, "predict", "train", f"{k}-of-2") for k in range(2)]
    names = [str(path.relative_to(folder)) for path in receipts]
    seconds = starter.run(folder, "--resources", f"gpu={at_once}", "--force", *names).seconds
    made = [starter.read(path) for path in receipts]
    print(f"{at_once} at once, {made[0]['run']['threads']} threads each: {seconds:6.1f} s", flush=True)
    return seconds, [receipt["digest"] for receipt in made]


def main() -> None:
    """Measure in turns."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sections", type=int, default=32, help="of the volume, 512 x 512 each")
    parser.add_argument("--folder", type=Path, default=ROOT / "results-benchmark-workstation")
    arguments = parser.parse_args()
    folder = arguments.folder.absolute()
    starter.configure(folder, configuration(arguments.sections))
    starter.run(folder, "results/model/model.pt", "results/receipts/intensity_statistics/train.json")
    rounds = [(predicted(folder, 1), predicted(folder, 2)) for _ in range(arguments.rounds)]
    same = all(digests == rounds[0][0][1] for pair in rounds for _, digests in pair)
    ratio = median(two[0] for _, two in rounds) / median(one[0] for one, _ in rounds)
    print(f"two at once take {ratio:.2f} of the time of one after the other; the same voxels: {same}")
    print(json.dumps({"ratio": round(ratio, 3), "identical": same}))
    raise SystemExit(0 if same and ratio <= 1.1 else 1)


if __name__ == "__main__":
    main()
