"""A soak: the whole chain on 0.25 and on 2 Gvoxel, with a tiny network on a volume that is made block by block.

    python benchmarks/soak.py                                  # 0.25 and 2 Gvoxel; some 8 GB of disk
    python benchmarks/soak.py --voxels 8_000_000 64_000_000    # try it on something small

Every job of both runs has the same number of voxels. Prints for each rule the memory of its largest job in both runs,
which has to be flat. Prints the processor seconds per voxel as well, which have to be equal within 15 %; rules of less
than five seconds in the smaller run are nearly all start-up and do not count. Files have to be as the plan said.

Two rules are judged otherwise. Training learns from the same corner in both runs. `merge` holds a layer of blocks and
what is open to the next layer. Both grow with the area of a section, here fourfold, so the memory of `merge` may not
exceed what the plan estimates.
"""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import starter
from plan import TINY, measured_rules
from starter import ROOT
from synthetic import make_volume, shape_of

from unet.config.root import load_config
from unet.run.plan.estimates import estimated_rules, read_plan, store_sizes

FLAT, LINEAR = 1.15, 0.15
MIN_SECONDS = 5
JOBS = 4
"""Of a rule in the smaller run."""


def soaked(folder: Path, voxels: int, job: int, method: str) -> tuple[dict[str, dict[str, float]], bool, float]:
    """Run the chain; time and memory of every rule, whether all files are as planned, and MB estimated for `merge`."""
    values = TINY | {
        "predict": TINY["predict"] | {"job_voxels": job},
        "segment": TINY["segment"] | {"method": method},
    }
    make_volume(starter.configure(folder, values), voxels)
    starter.run(folder, "plan")
    clock = starter.run(folder).seconds
    plan = read_plan(folder / "results" / "plan.json", load_config(values))
    assert plan is not None
    stores = store_sizes(plan, folder / "results" / "volumes")
    exact = all(one.estimated_files == one.measured_files for one in stores)
    files, size = sum(one.measured_files for one in stores), sum(one.measured_bytes for one in stores)
    shape = " x ".join(map(str, shape_of(voxels)))
    print(f"{shape}: {clock:.0f} s, {files} files (as planned: {exact}), {size / 1e9:.2f} GB", flush=True)
    return measured_rules(folder / "results"), exact, estimated_rules(plan)["merge"].memory_mb


def main() -> None:
    """Run both, print the table and the verdict."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--voxels", type=int, nargs=2, default=[2**28, 2**31])
    parser.add_argument("--method", choices=["components", "watershed"], default="components")
    parser.add_argument("--folder", type=Path, default=ROOT / "results-benchmark-soak")
    arguments = parser.parse_args()
    folder, job = arguments.folder.absolute(), arguments.voxels[0] // JOBS
    runs = [soaked(folder / str(voxels), voxels, job, arguments.method) for voxels in arguments.voxels]
    (small, _, _), (large, _, estimated) = runs
    times = arguments.voxels[1] / arguments.voxels[0]
    table: dict[str, Any] = {}
    print(f"{'rule':<16}{'jobs':>12}{'MB of a job':>20}{'flat':>7}{'core seconds':>22}{'linear':>8}")
    for rule, one in large.items():
        before = small[rule]
        memory = one["memory"] / max(before["memory"], 1)
        linear = one["cores"] / max(before["cores"], 1e-9) / times
        counts = before["cores"] >= MIN_SECONDS and rule != "train"
        table[rule] = {"memory": round(memory, 3), "time": round(linear, 3) if counts else None}
        print(
            f"{rule:<16}{before['jobs']:>5.0f} ->{one['jobs']:>4.0f}{before['memory']:>9.0f} -> {one['memory']:<7.0f}"
            f"{memory:>7.2f}{before['cores']:>10.1f} -> {one['cores']:<8.1f}{linear if counts else float('nan'):>8.2f}"
        )
    flat = all(one["memory"] <= FLAT for rule, one in table.items() if rule != "merge")
    flat = flat and large["merge"]["memory"] <= estimated
    steady = all(one["time"] is None or abs(one["time"] - 1) <= LINEAR for one in table.values())
    files = all(exact for _, exact, _ in runs)
    print(json.dumps({"flat": flat, "linear": steady, "files": files, "rules": table}))
    shutil.rmtree(folder)
    raise SystemExit(0 if flat and steady and files else 1)


if __name__ == "__main__":
    main()
