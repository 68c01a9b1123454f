"""Estimate what a run will cost, before anything is computed: jobs, arithmetic, time, memory, disk and files."""

import sys
from dataclasses import asdict
from pathlib import Path

from unet.config.root import Config
from unet.jobs.script import run
from unet.run.plan.estimates import planned_for
from unet.run.plan.plan import plan_run
from unet.run.plan.text import as_text
from unet.storage.files import write_json


def main(plan: Path, config: Config, threads: int = 1) -> None:
    """Print the plan, and write it to `plan` as JSON; fail where it cannot work."""
    estimated = plan_run(config, threads)
    sys.stdout.write(as_text(estimated) + "\n")
    write_json(plan, asdict(estimated) | {"wall_seconds": estimated.wall_seconds, "config": planned_for(config)})
    if estimated.errors:
        raise SystemExit("this configuration does not work; see above")


if __name__ == "__main__":
    run(main, globals().get("snakemake"))
