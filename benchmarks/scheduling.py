"""Cost of Snakemake and the Snakefile themselves, by the number of block ranges: time and memory, without a voxel.

    python benchmarks/scheduling.py                                          # 10, 100, 1,000 and 10,000 block ranges
    python benchmarks/scheduling.py --ranges 1000 --method watershed

1. A volume of so many block ranges is only said to be there: the receipts of `survey` and `check_model` are written,
   an empty file is its image, and the last run is said to have had this configuration.
2. `snakemake -n` plans the whole run.
3. A run whose jobs do nothing but write their receipts (`pretending/`) shows what scheduling takes.
4. `snakemake -n` again, now that all is done.
5. `--teravoxel` does 2. with `predict.job_voxels: auto` for 4096 x 16384 x 16384 voxels: at most 30 s and 2 GB.
"""

import argparse
import json
from contextlib import chdir
from math import prod
from pathlib import Path
from typing import Any

import starter
import torch
from starter import ROOT, Spent

from unet.config.model import ModelConfig
from unet.config.root import load_config
from unet.network.model import build_model
from unet.network.model_file import save_model
from unet.run.code_digest import code_digest
from unet.run.provenance import configuration_text
from unet.storage.files import write_json
from unet.volumes.input_states import model_input_states, survey_input_states
from unet.volumes.layout import VolumeLayout

BLOCK = (16, 1024, 1024)
TERAVOXEL = (4096, 16384, 16384)
QUIET = ("--cores", "100", "--quiet", "all")
MODEL = ModelConfig(depth=2, base_channels=2, dropout=0)
CONFIG: dict[str, Any] = {
    "volumes": {"all": {"raw": "raw.tif", "voxel_size_nm": [30, 8, 8]}},
    "model": {"checkpoint": "model.pt"},
    "predict": {"volumes": ["all"], "tile": 316},
}


def prepare(folder: Path, shape: tuple[int, ...], method: str, job_voxels: int | str) -> None:
    """Make a folder in which a volume of `shape` has just been surveyed."""
    predict = CONFIG["predict"] | {"job_voxels": job_voxels}
    values = CONFIG | {"predict": predict, "segment": {"method": method}}
    starter.configure(folder, values)
    (folder / "raw.tif").touch()
    save_model(folder / "model.pt", build_model(MODEL), MODEL, ["membrane", "interior"], normalisation={})
    layout = VolumeLayout(shape, "uint8", (30, 8, 8), (0, 0, 0), (8, 128, 128), BLOCK, None, False)
    with chdir(folder):  # the state of the input is that of the names in the configuration
        config = load_config(values)
        code = code_digest(ROOT / "scripts" / "survey.py")
        surveyed = {"input_states": survey_input_states(config.volumes["all"], config.storage, code)}
        checked = {"input_states": model_input_states(config.model.checkpoint)}
    write_json(starter.receipt(folder, "survey", "all"), surveyed | {"layout": vars(layout), "digest": "0"})
    write_json(starter.receipt(folder, "check_model", "all"), checked)
    (folder / "results" / "run_config.yaml").write_text(configuration_text(config))


def measured(folder: Path, block_ranges: int, method: str) -> dict[str, Spent]:
    """Measure a dry run, a run of pretended jobs, and a dry run after it; 4 blocks per block range, 64 per section."""
    shape = (BLOCK[0] * -(-block_ranges * 4 // 64), BLOCK[1] * 8, BLOCK[2] * 8)
    prepare(folder, shape, method, 4 * prod(BLOCK))
    return {
        "-n": starter.run(folder, *QUIET, "-n"),
        "run": starter.run(folder, *QUIET, "--executor", "pretend", "--jobs", "100", "--latency-wait", "0"),
        "-n, finished": starter.run(folder, *QUIET, "-n"),
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ranges", type=int, nargs="*", default=[10, 100, 1000, 10_000])
    parser.add_argument("--method", choices=["components", "watershed"], default="components")
    parser.add_argument("--teravoxel", action="store_true")
    parser.add_argument("--folder", type=Path, default=ROOT / "results-benchmark-scheduling")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    folder, rows = arguments.folder.absolute(), {}
    print(f"{'block_ranges':>10}  {'':<14}{'clock':>10} {'processor':>10} {'memory':>10}")
    for block_ranges in [] if arguments.teravoxel else arguments.ranges:
        rows[block_ranges] = measured(folder, block_ranges, arguments.method)
        for name, spent in rows[block_ranges].items():
            print(f"{block_ranges:>10}  {name:<14}{spent}", flush=True)
    if arguments.teravoxel:
        prepare(folder, TERAVOXEL, arguments.method, "auto")
        rows["teravoxel"] = {"-n": (spent := starter.run(folder, *QUIET, "-n"))}
        print(f"{'1.1e12 vx':>10}  {'-n':<14}{spent}")
    print(
        json.dumps(
            {block_ranges: {name: vars(spent) for name, spent in row.items()} for block_ranges, row in rows.items()}
        )
    )


if __name__ == "__main__":
    main()
