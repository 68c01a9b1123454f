"""Estimate the cost of a run before anything is computed: jobs, arithmetic, time, memory, disk and files.

Inputs: the configuration, and the headers of the image files.

Outputs: a table on the terminal, and `plan.json`.

1. Derive the layout of each volume from headers, and from it the jobs of each rule.
2. Measure this machine on a few tiles and blocks, or use `plan.gpu_flops`.
3. Multiply, and compare memory, disk and files with what there is.
"""

import sys
from dataclasses import asdict
from pathlib import Path

from unet.config.root import Config
from unet.jobs.script import run_script
from unet.run.plan.estimates import planned_for
from unet.run.plan.plan import plan_run
from unet.run.plan.text import as_text
from unet.storage.files import write_json


def main(plan: Path, config: Config, threads: int = 1) -> None:
    """Print the plan, and write it to `plan` as JSON; exit with an error if the configuration cannot work."""
    estimate = plan_run(config, threads)
    sys.stdout.write(as_text(estimate) + "\n")
    write_json(plan, asdict(estimate) | {"wall_seconds": estimate.wall_seconds, "config": planned_for(config)})
    if estimate.errors:
        raise SystemExit("this configuration does not work; see above")


if __name__ == "__main__":
    run_script(main, globals().get("snakemake"))
