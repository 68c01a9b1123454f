"""Training steps and forward passes of networks on a GPU, by number format, memory layout and compilation.

    python benchmarks/gpu_steps.py                          # every network and way, as far as --seconds go
    python benchmarks/gpu_steps.py --networks 3d-8 --profile

The data lie on the device, so nothing waits for patches: a training can be no faster than this. Each way runs in a
process of its own, since a compilation or a chosen kernel of one would serve the next. The share of the arithmetic rate
is that of a large matrix product in bfloat16 in the same process. Without a GPU `--smoke` runs a miniature on the CPU.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import product
from typing import Any

import starter
import torch
from torch import Tensor, nn

from unet.config.model import ModelConfig
from unet.geometry.tiling import tile_geometry
from unet.network.complexity import forward_cost
from unet.network.model import build_model

NETWORKS: dict[str, tuple[dict[str, Any], int, int]] = {
    "2d-64": ({"depth": 5, "base_channels": 64}, 572, 1),
    "2d-64-batch": ({"depth": 5, "base_channels": 64}, 572, 8),
    "2d-16": ({"depth": 4, "base_channels": 16, "normalisation": "batch"}, 380, 8),
    "3d-8": ({"dimensions": 3, "depth": 3, "base_channels": 8, "normalisation": "batch", "block": "residual"}, 84, 2),
    "3d-32": (
        {"dimensions": 3, "depth": 3, "base_channels": 32, "normalisation": "batch", "block": "residual"},
        116,
        2,
    ),
}
"""Section `model`, side of the tile in voxels, and batch."""
FORMATS = ("bfloat16", "tfloat32")
LAYOUTS = ("channels_last", "channels_first")
COMPILATIONS = ("none", "default", "reduce-overhead")
CLASSES = 9
"""Channels of the output."""
MIN_SECONDS = 1.0
"""Time over which steps are averaged."""


def step_function(
    model: nn.Module, raw: Tensor, target: Tensor, bfloat16: bool, compilation: str
) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Return functions that take a training step, and compute a forward pass."""
    device = raw.device.type
    forward = model if compilation == "none" else torch.compile(model, mode=compilation, dynamic=False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=device == "cuda")

    def logits() -> Tensor:
        with torch.autocast(device, torch.bfloat16, enabled=bfloat16, cache_enabled=False):
            return forward(raw)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        nn.functional.binary_cross_entropy_with_logits(logits().float(), target).backward()
        optimizer.step()

    def forward_pass() -> None:
        with torch.no_grad():
            logits()

    return step, forward_pass


def seconds_of(work: Callable[[], Any], device: torch.device, least: float) -> float:
    """Return the seconds per call, after three calls that warm up."""
    for _ in range(3):
        work()
    calls, begin = 0, _now(device)
    while time.perf_counter() - begin < least or calls == 0:
        for _ in range(5):
            work()
        calls += 5
        _synchronise(device)
    return (_now(device) - begin) / calls


def _now(device: torch.device) -> float:
    _synchronise(device)
    return time.perf_counter()


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def matrix_flops_per_second(device: torch.device, smoke: bool) -> float:
    """Return the rate of a product of two square matrices in bfloat16."""
    n = 64 if smoke else 8192
    a = torch.randn(n, n, device=device, dtype=torch.bfloat16)
    return 2 * n**3 / seconds_of(lambda: a @ a, device, 0.2)


def measure(name: str, number_format: str, layout: str, compilation: str, smoke: bool, profile: bool) -> dict[str, Any]:
    """Return seconds per step and forward pass, the time of the first step, and shares of the arithmetic rate."""
    device = torch.device("cpu" if smoke else "cuda")
    changes, side, batch = NETWORKS[name]
    if smoke:
        changes, side = {**changes, "depth": 2, "base_channels": 2}, 28 if "2d" in name else 20
    config = ModelConfig(dropout=0, **changes)
    tile = (1, side, side) if config.dimensions == 2 else (side,) * 3
    model, raw, target = on_device(config, tile, batch, layout, device)
    step, forward_pass = step_function(model, raw, target, number_format == "bfloat16", compilation)
    begin = _now(device)
    step()
    first, least = _now(device) - begin, 0.01 if smoke else MIN_SECONDS
    a_step, a_pass = (seconds_of(work, device, least) for work in (step, forward_pass))
    if profile:
        print_kernels(step)
    flops, rate = batch * forward_cost(config, CLASSES, tile).flops, matrix_flops_per_second(device, smoke)
    return {
        **{"network": name, "format": number_format, "layout": layout, "compilation": compilation},
        **{"step_ms": 1e3 * a_step, "step_share": 3 * flops / a_step / rate, "first_step_s": first},
        **{"forward_ms": 1e3 * a_pass, "forward_share": flops / a_pass / rate},
        "memory_gb": torch.cuda.max_memory_allocated() / 1e9 if device.type == "cuda" else 0.0,
    }


def on_device(
    config: ModelConfig, tile: tuple[int, ...], batch: int, layout: str, device: torch.device
) -> tuple[nn.Module, Tensor, Tensor]:
    """Return a network, and the input and target of a batch, in a memory layout."""
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    last = torch.channels_last if config.dimensions == 2 else torch.channels_last_3d
    memory: Any = last if layout == "channels_last" else torch.contiguous_format
    model = build_model(config, 1, CLASSES).to(device)
    model.to(memory_format=memory)  # type: ignore[call-overload]
    size = tile_geometry(config, tile).output[-config.dimensions :]
    raw = torch.randn(batch, 1, *tile[-config.dimensions :], device=device).contiguous(memory_format=memory)
    return model, raw, (torch.rand(batch, CLASSES, *size, device=device) > 0.3).float()


def print_kernels(step: Callable[[], Any]) -> None:
    """Print the kernels that take most of three steps."""
    kinds = [torch.profiler.ProfilerActivity.CUDA, torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=kinds) as profiler:
        for _ in range(3):
            step()
    for event in sorted(profiler.key_averages(), key=lambda event: -event.self_device_time_total)[:14]:
        print(f"{event.self_device_time_total / 3e3:8.2f} ms per step, {event.count // 3:5d} calls  {event.key[:90]}")


def print_table(rows: list[dict[str, Any]]) -> None:
    """Print the figures."""
    print("| network | way | step (ms) | of the rate | forward (ms) | of the rate | first step (s) |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        way = ", ".join(row[key] for key in ("format", "layout", "compilation"))
        print(
            f"| {row['network']} | {way} | {row['step_ms']:.1f} | {row['step_share']:.2f} | "
            f"{row['forward_ms']:.1f} | {row['forward_share']:.2f} | {row['first_step_s']:.0f} |"
        )


def in_own_process(one: tuple[str, ...], options: list[str]) -> dict[str, Any] | None:
    """Return the figures of one way; None, with a message, if it failed."""
    command = [sys.executable, __file__, "--one", *one, *options]
    done = subprocess.run(command, env=starter.environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"{' '.join(one)}: {done.stderr.strip().splitlines()[-1][:200]}", file=sys.stderr)
        return None
    *kernels, values = done.stdout.splitlines()
    if kernels:
        print(" ".join(one), *kernels, sep="\n", file=sys.stderr)
    figures: dict[str, Any] = json.loads(values)
    return figures


def main() -> None:
    """Measure every way in a process of its own, and print a table and JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=["bfloat16"])
    parser.add_argument("--layouts", nargs="+", choices=LAYOUTS, default=["channels_last"])
    parser.add_argument("--compilations", nargs="+", choices=COMPILATIONS, default=["none", "default"])
    parser.add_argument("--seconds", type=float, default=420, help="after which no further way is begun")
    parser.add_argument("--profile", action="store_true", help="print the kernels that take most of a step")
    parser.add_argument("--smoke", action="store_true", help="a miniature on the CPU, to see that it runs")
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        name, number_format, layout, compilation = arguments.one
        print(json.dumps(measure(name, number_format, layout, compilation, arguments.smoke, arguments.profile)))
        return
    networks, ways = arguments.networks, (arguments.formats, arguments.layouts, arguments.compilations)
    if arguments.smoke:
        networks, ways = ["3d-8"], (["bfloat16"], ["channels_last"], ["none"])
    options = ["--smoke"] * arguments.smoke + ["--profile"] * arguments.profile
    rows, end = list[dict[str, Any]](), time.monotonic() + arguments.seconds
    for one in product(networks, *ways):
        if time.monotonic() > end:
            print(f"no time is left for {' '.join(one)} and what follows", file=sys.stderr)
            break
        figures = in_own_process(one, options)
        if figures is not None:
            rows.append(figures)
    print_table(rows)
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
