"""The predict job against the machine it runs on, and against its peers: from Zarr to Zarr, in one run.

    python benchmarks/inference.py --peers-python peers/bin/python      # made as benchmarks/inference_peers.py says
    python benchmarks/inference.py --base-channels 64                   # the paper's own network: 16 times the work
    python benchmarks/inference.py --example fib25 --shape 64 256 256 --parts job       # its 3-D network of affinities

A generated volume is written as ingest leaves it, and a network of the paper's depth (untrained: that changes nothing
of the cost) with fewer channels. Then, on the GPU if there is one, else with all cores:

1. `rate`     The largest rate of a matrix product, before and after everything else; of a GPU in bfloat16.
2. `job`      The script of the rule `predict`, as a process: its time with and without the start-up, its peak memory.
3. `bare`     As many forward passes of its tiles, in the same engine, with nothing else around them.
4. `exact`    A section as the job predicts it, against the network on the whole mirrored section; of 2-D networks.
5. `peers`    Seconds a section of each peer, and its deviation, see benchmarks/inference_peers.py.
6. `growth`   The job with a smaller network on a volume, on 8 times as much, on 64 times as much.
7. `blocks`   The same network on one volume in blocks of several shapes: cost, memory, and how often a voxel is read.

`busy` is bare over job; `efficiency` the arithmetic of the network on whole images over what the matrix product would
have done in the job's time. Job and bare passes take turns, and the best of each counts.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import starter
import torch
from starter import ROOT, environment

from unet.config.model import ModelConfig
from unet.config.predict import PredictConfig
from unet.config.section import Precision
from unet.geometry.box import Box, Index
from unet.geometry.offsets import ISOTROPIC_OFFSETS, offset_name
from unet.geometry.tiling import tile_count, tile_geometry, valid_input_sizes
from unet.jobs.device_capacity import keep_freed_memory, measured_flops_per_second, usable_cores
from unet.network.complexity import useful_flops_per_voxel
from unet.network.engine import Engine
from unet.network.model import build_model
from unet.network.model_file import load_model, save_model
from unet.network.output_channels import model_offsets
from unet.network.predictor import Predictor, read_box, tile_lattices
from unet.network.tile_selection import PredictionTask, device_kind, job_memory
from unet.storage.files import read_json, write_json
from unet.storage.zarr_store import open_image
from unet.training.synthetic import synthesise
from unet.volumes.histogram import BINS, histogram
from unet.volumes.intensity import Normalisation, intensity_statistics
from unet.volumes.layout import VolumeLayout
from unet.volumes.volume import Volume

CORES = usable_cores()
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
CLASSES = ["membrane", "interior"]
SAMPLE = (16, 512)
LOGITS = 2.0
"""Standard deviation that the untrained network's logits are scaled to: probabilities are neither flat nor 0 or 1."""
SMALL = ModelConfig(depth=4, base_channels=8, dropout=0)
"""With which reading and writing weigh more."""
GROWTH = [(8, 512, 512), (8, 1024, 2048), (8, 4096, 4096)]
BLOCKS = [(8, 128, 128), (8, 256, 256), (8, 512, 512), (16, 512, 512), (16, 1024, 1024), (16, 2048, 2048)]
PARTS = ["job", "growth", "blocks"]
PEAK = """import resource, subprocess, sys
status = subprocess.call(sys.argv[1:], stdout=sys.stderr)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(status)"""
"""Starts a process and prints its peak: one started from here would be charged with what this process had held."""


@dataclass(frozen=True)
class Run:
    """A volume as ingest leaves it, and a network for it."""

    folder: Path
    layout: VolumeLayout
    config: ModelConfig

    @classmethod
    def made(cls, folder: Path, shape: Index, block: Index, config: ModelConfig) -> "Run":
        """Write a volume of so many voxels: sections of the sample side by side, under noise of their own."""
        layout = VolumeLayout(shape, "uint8", (50.0, 4.0, 4.0), (0.0, 0.0, 0.0), (8, 128, 128), block, None, False)
        run, rng, sample = cls(folder, layout, config), np.random.default_rng(0), synthesise(*SAMPLE)[0]
        shutil.rmtree(folder, ignore_errors=True)
        write_json(run.survey, {"layout": asdict(layout)})
        image = Volume.open(folder / "volume", run.survey).create("raw", layout.dtype)
        counts = np.zeros((1, BINS), np.int64)
        for box in layout.grid.boxes():
            repeats = [-(-n // m) for n, m in zip(box.shape, sample.shape, strict=True)]
            values = np.tile(sample, repeats)[Box.of_shape(box.shape).slices].astype(np.int16)
            values = (values + rng.integers(-3, 4, box.shape, np.int16)).clip(0, 255).astype(np.uint8)
            image.write_block(box, values)
            counts += histogram(values)
        write_json(run.values, {"digest": "0", "statistics": [asdict(intensity_statistics(counts, layout.dtype))]})
        torch.manual_seed(0)
        names = channel_names(config)
        model = build_model(config, 1, len(names)).eval()
        section = run.normalisation(sample[None, 0, :380, :380])
        scale_logits(model, section if config.dimensions == 2 else np.repeat(section[:, None, :84, :84], 84, axis=1))
        save_model(run.model, model, config, names, normalisation={})
        return run

    @property
    def survey(self) -> Path:
        return self.folder / "survey.json"

    @property
    def values(self) -> Path:
        return self.folder / "grey_values.json"

    @property
    def model(self) -> Path:
        return self.folder / "model.pt"

    @property
    def normalisation(self) -> Normalisation:
        return Normalisation.of(read_json(self.values)["statistics"])


def channel_names(config: ModelConfig) -> list[str]:
    """Return the names of a network's outputs: classes, or offsets."""
    if config.output == "classes":
        return CLASSES
    return [offset_name(one) for one in model_offsets(config, (1, 1, 1))]  # `example_network` has named them in voxels


def example_network(name: str) -> ModelConfig:
    """Return the network of an example, with the offsets for cubic voxels where it names none."""
    given = starter.example(ROOT / "config" / "examples" / f"{name}.yaml")["model"]
    offsets = {"offsets": ISOTROPIC_OFFSETS} if given.get("output") == "affinities" else {}
    return ModelConfig(**{**offsets, **given})


def scale_logits(model: Any, section: np.ndarray) -> None:
    """Scale the last layer, see `LOGITS`."""
    with torch.inference_mode(False), torch.no_grad():
        factor = LOGITS / model(torch.from_numpy(section[None])).std()
        for weights in model.classifier.parameters():
            weights *= factor


def rate() -> float:
    """Return the floating-point operations per second of a matrix product of the size that suits the device best."""
    if DEVICE.type == "cuda":
        return measured_flops_per_second(DEVICE, seconds=2.0)
    torch.set_num_threads(CORES)
    return max(_rate(n) for n in (512, 1024, 2048, 4096))


def _rate(n: int, seconds: float = 1.0) -> float:
    a = torch.randn(n, n)
    a @ a
    begin, count = time.perf_counter(), 0
    while time.perf_counter() - begin < seconds:
        a @ a
        count += 1
    return 2 * n**3 * count / (time.perf_counter() - begin)


@dataclass(frozen=True)
class JobTimes:
    """Seconds of a job with its start-up and without, its peak memory in bytes, and what it chose."""

    whole: float
    without_start_up: float
    peak: int
    tile: Index
    batch: int
    precision: Precision


def job(run: Run, **predict: Any) -> JobTimes:
    """Predict the volume as a process of its own."""
    receipt = run.folder / "receipts" / "0-of-1.json"
    shutil.rmtree(receipt.parent, ignore_errors=True)
    shutil.rmtree(run.folder / "volume" / "probability.zarr", ignore_errors=True)
    arguments = {
        "survey": run.survey,
        "intensity_statistics": run.values,
        "model": run.model,
        "receipt": receipt,
        "folder": run.folder / "volume",
        "block_range": "0-of-1",
        "predict": PredictConfig(dashboard=False, **predict).model_dump(),
        "slurm": {},
        "worker_logs": run.folder,
        "code": "benchmark",
        "threads": CORES,
    }
    script = [sys.executable, str(ROOT / "scripts" / "predict.py"), json.dumps(arguments, default=str)]
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", PEAK, *script],
        env=environment(OMP_NUM_THREADS=str(CORES)),  # as Snakemake sets it
        stdout=subprocess.PIPE,
        stderr=(run.folder / "job.log").open("w"),
        check=False,
    )
    whole = time.perf_counter() - begin
    if done.returncode:
        raise SystemExit((run.folder / "job.log").read_text())
    facts = read_json(receipt)["run"]
    chosen = tuple(facts["tile"]), facts["batch"], facts["precision"]
    return JobTimes(whole, facts["seconds"], int(done.stdout) * 1024, *chosen)


def bare(run: Run, like: JobTimes) -> float:
    """Return the seconds of the forward passes of all tiles of a job, in a process that does nothing else."""
    tiles = tile_count(run.layout.grid, tile_geometry(run.config, like.tile))
    passes = -(-tiles // like.batch)
    numbers = map(str, (passes, like.batch, *like.tile))
    command = [sys.executable, __file__, "--bare", str(run.model), like.precision, *numbers]
    threads = environment(OMP_NUM_THREADS=str(CORES))
    said = subprocess.run(command, env=threads, check=True, capture_output=True, text=True).stdout
    return float(said)


def bare_passes(model: Path, precision: Precision, passes: int, batch: int, *tile: int) -> float:
    """Do the work of `bare` in its process."""
    keep_freed_memory()
    engine = Engine(load_model(model)[0], DEVICE, precision, threads=CORES)
    grey = torch.randn(batch, 1, *(tile[1:] if engine.is_2d else tile), device=DEVICE)

    def forward(number: int) -> None:
        with torch.inference_mode():
            engine.logits(grey)

    def timed(count: int) -> float:
        begin = time.perf_counter()
        engine.each(forward, range(count))
        if engine.on_gpu:
            torch.cuda.synchronize()
        return time.perf_counter() - begin

    timed(2 * CORES)
    return timed(passes)


def exact(run: Run, tile: Index) -> float:
    """Return the largest difference of a section's probabilities from the network on the whole section, mirrored."""
    raw, model = open_image(run.folder / "volume" / "raw.zarr"), load_model(run.model)[0]
    _, height, width = raw.shape
    section = Box((0, 0, 0), (1, height, width))
    tiled = Predictor(model, tile_geometry(run.config, tile), run.normalisation, threads=CORES).predict_box(
        raw, section
    )
    side = next(n for n in valid_input_sizes(run.config, 2**20) if n >= max(height, width) + 2 * 92)
    grey = raw.read_mirrored(Box((0, -92, -92), (1, side - 92, side - 92)))
    torch.set_num_threads(CORES)
    with torch.inference_mode():
        logits = model(torch.from_numpy(run.normalisation(grey)[None]))[0, :, :height, :width]
    return float(np.abs(torch.softmax(logits, 0).numpy() - tiled[:, 0]).max())


def peers(run: Run, python: Path, sections: int) -> dict[str, Any]:
    """Return the figures of the peers, from their environment."""
    statistics = read_json(run.values)["statistics"][0]
    arguments = {
        "threads": CORES,
        "sections": sections,
        "mean": statistics["mean"],
        "std": statistics["std"],
        "model": run.model,
        "raw": run.folder / "volume" / "raw.zarr" / "0",
        "folder": run.folder / "peers",
    }
    own = {k: v for k, v in environment().items() if not k.endswith("_NUM_THREADS")}
    command = [str(python), str(Path(__file__).with_name("inference_peers.py")), json.dumps(arguments, default=str)]
    return json.loads(subprocess.run(command, env=own, check=True, stdout=subprocess.PIPE).stdout)


def growth(folder: Path) -> dict[str, list[float]]:
    """Return nanoseconds per voxel and peak gigabytes of larger and larger jobs; each the best of two."""
    found: dict[str, list[float]] = {"ns_per_voxel": [], "peak_gb": []}
    for shape in GROWTH:
        run = Run.made(folder / "growth", shape, (8, 256, 256), SMALL)
        jobs = [job(run) for _ in range(2)]
        found["ns_per_voxel"].append(1e9 * min(one.without_start_up for one in jobs) / prod(shape))
        found["peak_gb"].append(max(one.peak for one in jobs) / 1e9)
        shutil.rmtree(run.folder)
    return found


def blocks(folder: Path, shape: Index) -> dict[str, list[float]]:
    """Return nanoseconds per voxel, peak gigabytes, and voxels read per predicted voxel, by the shape of the blocks."""
    found = {}
    for block in BLOCKS:
        run = Run.made(folder / "blocks", shape, block, SMALL)
        jobs = [job(run) for _ in range(2)]
        lattices = tile_lattices("none", tile_geometry(SMALL, jobs[0].tile))
        read = sum(read_box(box, lattices).size for box in run.layout.grid.boxes()) / prod(shape)
        nanoseconds = 1e9 * min(one.without_start_up for one in jobs) / prod(shape)
        found["x".join(map(str, block))] = [nanoseconds, max(one.peak for one in jobs) / 1e9, read]
        shutil.rmtree(run.folder)
    return found


def figures(run: Run, rounds: int) -> dict[str, Any]:
    """Measure the job itself."""
    rates, jobs, passes = [rate()], [], []
    for _ in range(rounds):
        jobs.append(job(run))
        passes.append(bare(run, jobs[0]))
    rates.append(rate())
    best, bare_seconds = min(jobs, key=lambda one: one.without_start_up), min(passes)
    classes, flat = len(channel_names(run.config)), run.config.dimensions == 2
    task = PredictionTask(run.config, classes, 1, run.layout, PredictConfig(), best.precision)
    voxels = prod(run.layout.shape)
    return {
        "shape": run.layout.shape,
        "base_channels": run.config.base_channels,
        "device": torch.cuda.get_device_name() if DEVICE.type == "cuda" else f"{CORES} cores",
        "tile": best.tile,
        "batch": best.batch,
        "precision": best.precision,
        "gflops_of_a_matrix_product": max(rates) / 1e9,
        "seconds": best.without_start_up,
        "seconds_with_start_up": best.whole,
        "seconds_of_bare_passes": bare_seconds,
        "megavoxels_per_second": voxels / best.without_start_up / 1e6,
        "busy": bare_seconds / best.without_start_up,
        "busy_with_start_up": bare_seconds / best.whole,
        "efficiency": useful_flops_per_voxel(run.config, classes) * voxels / (best.without_start_up * max(rates)),
        **({"deviation": exact(run, best.tile)} if flat else {}),
        "peak_memory_gb": max(one.peak for one in jobs) / 1e9,
        "predicted_memory_gb": job_memory(task, best.tile, best.batch, device_kind(DEVICE), CORES).process / 1e9,
    }


def compared(found: dict[str, Any], of_peers: dict[str, Any], sections: int) -> dict[str, Any]:
    """Return how many times slower the faster variant of each peer is, with its deviation."""
    ours = found["seconds"] / sections
    ratios = {name: values["seconds"] / ours for name, values in of_peers.items() if name != "sections"}
    fastest = min((name for name in ratios if name.startswith("torch_em")), key=ratios.__getitem__)
    return {
        "monai_025": ratios["monai_025"],
        "monai_05": ratios["monai_05"],
        "torch_em": ratios[fastest],
        "torch_em_variant": fastest,
        "slower_times": ratios,
        "deviations": {name: of_peers[name]["deviation"] for name in ratios},
        "peer_sections": of_peers["sections"],
    }


def table(found: dict[str, Any]) -> str:
    """Return the figures as a table."""
    rows = [f"| {key} | {_short(value)} |" for key, value in found.items() if not isinstance(value, dict)]
    for key, values in found.items():
        if isinstance(value := values, dict):
            rows += [f"| {key}: {name} | {_short(one)} |" for name, one in value.items()]
    return "\n".join(["| figure | value |", "|---|---|", *rows])


def _short(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(_short(one) for one in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def main(given: Sequence[str] | None = None) -> None:
    """Measure, print a table and the same as one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base-channels", type=int, default=16)
    parser.add_argument("--example", help="of config/examples, whose network is measured in place of the paper's")
    parser.add_argument("--block", type=int, nargs=3, default=(16, 1024, 1024))
    parser.add_argument("--shape", type=int, nargs=3, default=(16, 2048, 2048))
    parser.add_argument("--rounds", type=int, default=2, help="of job and bare passes in turn")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--peers-python", type=Path, help="Python that has MONAI and torch-em")
    parser.add_argument("--peer-sections", type=int, default=4, help="of the volume that each peer predicts")
    parser.add_argument("--folder", type=Path, default=ROOT / "results-benchmark-inference")
    parser.add_argument("--bare", nargs=7, help=argparse.SUPPRESS)
    arguments = parser.parse_args(given)
    if arguments.bare:
        model, precision, *numbers = arguments.bare
        print(bare_passes(Path(model), precision, *map(int, numbers)))
        return
    found: dict[str, Any] = {}
    if "job" in arguments.parts:
        own, block = ModelConfig(base_channels=arguments.base_channels), tuple(arguments.block)
        config = example_network(arguments.example) if arguments.example else own
        run = Run.made(arguments.folder / "volume", tuple(arguments.shape), block, config)
        found = figures(run, arguments.rounds)
        if arguments.peers_python is None:
            print("peers left out: --peers-python names no Python; benchmarks/inference_peers.py says how to make one")
        else:
            found |= compared(found, peers(run, arguments.peers_python, arguments.peer_sections), arguments.shape[0])
    if "growth" in arguments.parts:
        found["growth"] = growth(arguments.folder)
    if "blocks" in arguments.parts:
        found["blocks"] = blocks(arguments.folder, tuple(arguments.shape))
    shutil.rmtree(arguments.folder)
    print(table(found))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
