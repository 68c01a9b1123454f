"""Use of the device by training: the share of its arithmetic rate, beside others too, and of waiting for patches.

    python benchmarks/training.py                    # steps of a 2-D and a 3-D network, then the embedded sample
    python benchmarks/training.py --parts workflow --configfile config/examples/isbi2012-paper.yaml --steps 300  # a GPU

Part `step` takes steps on one batch on the CPU, in a new process for each of six ways, one after the other in rounds:

```
shared    all threads in every operation, PyTorch's own layers
samples   one thread per sample, layers in the form that is fastest (`unet.training.parallel_samples`)
bfloat16  the same with `train.precision: bfloat16`
          each alone, and beside one process that computes without an end
```

The 2-D network learns two classes; the 3-D network has residual blocks and learns affinities, as `fib25.yaml` does.

The share of the arithmetic rate is that of a matrix product on one thread in the same process. Both are divided by
processor seconds, which other work on the machine does not change much. Steps per second go by the clock.

Part `workflow` runs the workflow up to the trained model, in a folder of its own, and reads its learning curve. The
first lines are left out: they hold what happens once (opening stores, compiling).
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import starter
import torch
from starter import ROOT
from torch import Tensor, nn

from unet.config.model import ModelConfig
from unet.config.root import Config, load_config
from unet.config.train import TrainConfig
from unet.geometry.tiling import tile_geometry
from unet.jobs.device_capacity import keep_freed_memory, measured_flops_per_second, usable_cores
from unet.network import centre_crop
from unet.network import model as layers
from unet.network.complexity import forward_cost, training_flops
from unet.training.affinity_loss import AffinityLoss
from unet.training.device_batch import DeviceBatch
from unet.training.loss import WeightedCrossEntropy
from unet.training.optimizer import make_optimizer
from unet.training.parallel_samples import ParallelSamples

WARM_UP = 0.2
"""Share of the steps that is left out."""
NETWORKS: dict[str, tuple[dict[str, Any], int]] = {
    "2-D": ({"dimensions": 2, "depth": 4, "base_channels": 16, "normalisation": "batch"}, 380),
    "3-D": (
        {"dimensions": 3, "depth": 3, "base_channels": 8, "normalisation": "batch", "block": "residual"},
        84,
    ),
}
"""Networks with batch normalisation, and the sides of their tiles."""
SMALL_NETWORKS: dict[str, tuple[dict[str, Any], int]] = {
    "2-D": ({"dimensions": 2, "depth": 2, "base_channels": 2, "normalisation": "batch"}, 28),
    "3-D": ({"dimensions": 3, "depth": 2, "base_channels": 2, "normalisation": "batch", "block": "residual"}, 20),
}
WAYS = ("shared", "samples", "bfloat16")
BATCH = 2
CHANNELS = {2: 2, 3: 9}
"""Output channels by the dimensions of the network: classes, and the offsets of affinities."""


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
    """Return steps per second, the share of time waiting for patches, and the share of a matrix product's rate."""
    kept = lines[int(WARM_UP * len(lines)) :]
    steps, seconds = kept[-1]["step"] - kept[0]["step"], kept[-1]["seconds"] - kept[0]["seconds"]
    waited = sum(line["data_wait_share"] / line["steps_per_second"] for line in kept[1:])
    waited_share = waited / sum(1 / line["steps_per_second"] for line in kept[1:])
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    a_step = training_flops(config, len(config.class_names)) / config.train.steps
    return {
        "steps_per_second": steps / seconds,
        "data_wait_share": waited_share,
        "arithmetic_share": a_step * steps / seconds / measured_flops_per_second(device),
    }


def plain_layers() -> None:
    """Build networks from PyTorch's own layers, and crop by its own operation."""
    layers.LAYERS[3] = layers.LAYERS[3]._replace(convolution=nn.Conv3d, transposed=nn.ConvTranspose3d)
    layers.centre_crop = centre_crop._centre


def steps_of(way: str, name: str, steps: int, smoke: bool) -> dict[str, float]:
    """Take steps in one way, in this process; return seconds per step and the share of a matrix product's rate."""
    changes, side = (SMALL_NETWORKS if smoke else NETWORKS)[name]
    config, threads = ModelConfig(dropout=0, **changes), usable_cores()
    if way == "shared":
        plain_layers()
    else:
        keep_freed_memory()
    torch.manual_seed(0)
    outputs = CHANNELS[config.dimensions]
    model = layers.build_model(config, 1, outputs)
    layout = centre_crop.channels_last(config.dimensions)
    model.to(memory_format=layout)  # type: ignore[call-overload]  # torch declares no such overload
    raw = torch.randn(BATCH, 1, *(side,) * config.dimensions).contiguous(memory_format=layout)
    tile = (1, side, side) if config.dimensions == 2 else (side,) * 3
    size = tile_geometry(config, tile).output[-config.dimensions :]
    channels = (outputs,) if config.dimensions == 3 else ()
    target, weight = torch.randint(2, (BATCH, *channels, *size)).to(torch.uint8), torch.ones(BATCH, *channels, *size)
    step = one_step(way, model, DeviceBatch(raw, target, weight), threads)
    step()
    flops = 3 * BATCH * forward_cost(config, outputs, tile).flops
    clock, spent, rates = [], [], []
    for _ in range(steps):
        rates.append(matrix_flops_per_processor_second())
        torch.set_num_threads(threads if way == "shared" else 1)
        begin, processor = time.perf_counter(), time.process_time()
        step()
        clock.append(time.perf_counter() - begin)
        spent.append(time.process_time() - processor)
    shares = [flops / seconds / rate for seconds, rate in zip(spent, rates, strict=True)]
    return {"seconds": median(clock), "processor_seconds": median(spent), "arithmetic_share": median(shares)}


def one_step(way: str, model: nn.Module, batch: DeviceBatch, threads: int) -> Callable[[], None]:
    """Return a function that takes one step of AdamW."""
    optimizer = make_optimizer(model, TrainConfig(optimizer="adamw", learning_rate=1e-3))
    samples = None if way == "shared" else ParallelSamples(model, BATCH, threads)
    objective = AffinityLoss() if batch.target.ndim == 5 else WeightedCrossEntropy()
    counts = objective.counts(batch.target, batch.weight)
    objective.begin_step(counts)

    def loss(network: nn.Module, part: DeviceBatch) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=way == "bfloat16", cache_enabled=False):
            logits = network(part.raw)
        return objective.loss(logits, part.target, part.weight, counts)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        if samples is None:
            loss(model, batch).backward()
        else:
            samples.backward(lambda network, i: loss(network, batch.sample(i)), range(BATCH))
        optimizer.step()

    return step


def matrix_flops_per_processor_second(n: int = 1024, products: int = 8) -> float:
    """Return the rate of a matrix product on one thread."""
    torch.set_num_threads(1)
    a = torch.randn(n, n)
    torch.mm(a, a)
    begin = time.process_time()
    for _ in range(products):
        torch.mm(a, a)
    return 2 * n**3 * products / (time.process_time() - begin)


@contextmanager
def busy_process(wanted: bool) -> Iterator[None]:
    """Run a process that computes without an end beside this context."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if wanted else None
    try:
        yield
    finally:
        if process is not None:
            process.kill()
            process.wait()


def compare_ways(rounds: int, steps: int, smoke: bool) -> list[dict[str, Any]]:
    """Return the figures of every network and way, alone and beside a busy process: medians over rounds."""
    found: dict[tuple[str, str, bool], list[dict[str, float]]] = {}
    for _ in range(rounds):
        for name in ["3-D"] if smoke else NETWORKS:
            for busy in (True,) if smoke else (False, True):
                for way in WAYS:
                    command = [sys.executable, __file__, "--way", way, "--network", name, "--steps", str(steps)]
                    with busy_process(busy):
                        done = subprocess.run(
                            command + ["--smoke"] * smoke,
                            env=starter.environment(OMP_NUM_THREADS=str(usable_cores())),
                            capture_output=True,
                            text=True,
                            check=True,
                        )
                    found.setdefault((name, way, busy), []).append(json.loads(done.stdout.splitlines()[-1]))
    return [
        {"network": name, "way": way, "busy": busy} | {key: median(one[key] for one in several) for key in several[0]}
        for (name, way, busy), several in found.items()
    ]


def print_ways(rows: list[dict[str, Any]]) -> None:
    """Print the figures of part `step` as a table."""
    print("| network | way | beside | steps/s | processor seconds per step | of the matrix-product rate |")
    print("|---|---|---|---|---|---|")
    for row in rows:
        beside = "a busy process" if row["busy"] else "nothing"
        print(
            f"| {row['network']} | {row['way']} | {beside} | {1 / row['seconds']:.2f} | "
            f"{row['processor_seconds']:.2f} | {row['arithmetic_share']:.2f} |"
        )
    print()


def main() -> None:
    """Train for a while and print the figures as tables and as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=("step", "workflow"), default=["step", "workflow"])
    parser.add_argument("--configfile", type=Path, default=ROOT / "config" / "config.yaml")
    parser.add_argument("--steps", type=int, default=120, help="of part workflow")
    parser.add_argument("--rounds", type=int, default=3, help="of part step, which takes 3 steps in each")
    parser.add_argument("--cores", default="all")
    parser.add_argument("--folder", type=Path, default=ROOT / "results-benchmark-training")
    parser.add_argument("--smoke", action="store_true", help="of a miniature, to see that it runs")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--network", choices=NETWORKS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.way:
        print(json.dumps(steps_of(arguments.way, arguments.network, arguments.steps, arguments.smoke)))
        return
    found: dict[str, Any] = {}
    if "step" in arguments.parts:
        rounds, steps = (1, 1) if arguments.smoke else (arguments.rounds, 3)
        found["ways"] = compare_ways(rounds, steps, arguments.smoke)
        print_ways(found["ways"])
    if "workflow" in arguments.parts:
        config = starter.miniature() if arguments.smoke else starter.example(arguments.configfile)
        values = shortened(config, arguments.steps)
        run = figures(train(values, arguments.folder.absolute(), arguments.cores), load_config(values))
        print("| steps/s | waiting for patches | of the matrix-product rate |\n|---|---|---|")
        print(f"| {run['steps_per_second']:.2f} | {run['data_wait_share']:.1%} | {run['arithmetic_share']:.0%} |\n")
        found |= run
    print(json.dumps(found))


if __name__ == "__main__":
    main()
