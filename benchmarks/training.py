"""How busy training keeps the device: how long it waits for patches, and how much of the arithmetic rate it uses.

    python benchmarks/training.py                                    # the embedded sample
    python benchmarks/training.py --configfile config/examples/isbi2012-paper.yaml --steps 300     # on a GPU

Runs the workflow up to the trained model, in a folder of its own, and reads its learning curve. The first lines are
left out: they hold what happens once (opening stores, compiling).
"""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import starter
import torch
from starter import ROOT

from unet.config.root import Config, load_config
from unet.geometry.tiling import tile_geometry
from unet.jobs.device_capacity import measured_flops_per_second
from unet.network.complexity import training_flops

WARM_UP = 0.2
"""Share of the steps that is left out."""


def shortened(config: dict[str, Any], steps: int) -> dict[str, Any]:
    """Return a configuration with few steps, a line every ten, and nothing to validate."""
    config["train"] |= {"steps": steps, "log_steps": min(10, max(1, steps // 4)), "validation": []}
    return config


def train(config: dict[str, Any], folder: Path, cores: str) -> list[dict[str, Any]]:
    """Train anew; return the lines of the learning curve."""
    starter.configure(folder, config, anew=False)
    shutil.rmtree(folder / "results" / "model", ignore_errors=True)
    gpus = config["train"].get("gpus", 1)
    starter.run(folder, "results/model/model.pt", "--cores", cores, "--resources", f"gpu={gpus}")
    return [json.loads(line) for line in (folder / "results/model/training.jsonl").read_text().splitlines()]


def figures(lines: list[dict[str, Any]], config: Config) -> dict[str, float]:
    """Steps a second, the share of the time waiting for patches, and the share of a matrix product's rate."""
    kept = lines[int(WARM_UP * len(lines)) :]
    steps, seconds = kept[-1]["step"] - kept[0]["step"], kept[-1]["seconds"] - kept[0]["seconds"]
    waited = sum(line["data_wait_share"] / line["steps_per_second"] for line in kept[1:])
    waited_share = waited / sum(1 / line["steps_per_second"] for line in kept[1:])
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tile = tile_geometry(config.model, config.train.tile).input
    a_step = training_flops(config, len(config.class_names), tile) / config.train.steps
    return {
        "steps_per_second": steps / seconds,
        "data_wait_share": waited_share,
        "arithmetic_share": a_step * steps / seconds / measured_flops_per_second(device),
    }


def main() -> None:
    """Train for a while and print the figures as a table and as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--configfile", type=Path, default=ROOT / "config" / "config.yaml")
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--cores", default="all")
    parser.add_argument("--folder", type=Path, default=ROOT / "results-benchmark-training")
    parser.add_argument("--smoke", action="store_true", help="of a miniature, to see that it runs")
    arguments = parser.parse_args()
    config = starter.miniature() if arguments.smoke else starter.example(arguments.configfile)
    values = shortened(config, arguments.steps)
    found = figures(train(values, arguments.folder.absolute(), arguments.cores), load_config(values))
    print("| steps/s | waiting for patches | of the matrix-product rate |\n|---|---|---|")
    print(f"| {found['steps_per_second']:.2f} | {found['data_wait_share']:.1%} | {found['arithmetic_share']:.0%} |\n")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
