"""A petavoxel on paper: 1 mm3 of tissue at 8 x 8 x 30 nm, as `snakemake plan` sees it.

    python benchmarks/petavoxel.py                                # blocks of 64 x 2048 x 2048, the paper's network
    python benchmarks/petavoxel.py --block 16 1024 1024           # the default blocks
    python benchmarks/petavoxel.py --base-channels 16 --method watershed --sections 0 1024

The volume is a Zarr array of which only the metadata exist; no voxel is written or read. The GPU's rate is an
assumption (`--gpu-flops`): none has been measured yet.
"""

import argparse
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import starter
import zarr
from starter import SAMPLE

SHAPE = (33_333, 125_000, 125_000)
"""1 mm over 30, 8 and 8 nm: 5.2e14 voxels, half a petavoxel."""


def configuration(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the configuration of the whole volume, or of some sections; the sample stands for the annotation."""
    channels = arguments.base_channels
    whole = {"raw": "raw.zarr", "voxel_size_nm": [30, 8, 8]}
    if arguments.sections:
        whole["sections"] = arguments.sections
    segment = {"method": arguments.method, "connectivity": "volume"}
    return {
        "volumes": {"train": SAMPLE, "all": whole},
        "storage": {"chunk": [8, 128, 128], "block": arguments.block},
        "model": {"base_channels": channels, "normalisation": "none" if channels == 64 else "batch", "dropout": 0.5},
        "predict": {"volumes": ["all"]},
        "segment": segment,
        "plan": {
            "gpus": arguments.gpus,
            "cores": 16 * arguments.gpus,
            "gpu_flops": arguments.gpu_flops,
            "gpu_memory_gb": 80,
        },
    }


def main() -> None:
    """Print the plan."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--block", type=int, nargs=3, default=[64, 2048, 2048])
    parser.add_argument("--base-channels", type=int, default=64)
    parser.add_argument("--method", choices=["components", "watershed"], default="components")
    parser.add_argument("--sections", type=int, nargs=2, default=None)
    parser.add_argument("--gpus", type=int, default=100)
    parser.add_argument("--gpu-flops", type=float, default=1e14)
    arguments = parser.parse_args()
    with TemporaryDirectory() as name:
        folder = starter.configure(Path(name), configuration(arguments))
        zarr.create_array(folder / "raw.zarr", shape=SHAPE, chunks=(64, 512, 512), dtype="uint8")
        command = starter.command(folder, "-n", "plan")
        raise SystemExit(subprocess.run(command, cwd=folder, env=starter.environment(), check=False).returncode)


if __name__ == "__main__":
    main()
