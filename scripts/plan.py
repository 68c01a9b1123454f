"""Foresee what a run will cost, before anything is computed: jobs, arithmetic, time, memory, disk and files."""

import sys
from dataclasses import asdict
from pathlib import Path

from unet.config.root import Config
from unet.jobs.script import run_script
from unet.run.plan.estimates import planned_for
from unet.run.plan.planner import plan_run
from unet.run.plan.table import as_text
from unet.storage.files import write_json


def main(plan: Path, config: Config, threads: int = 1) -> None:
    """Print the plan, and write it to `plan` as JSON; fail where it cannot work."""
    foreseen = plan_run(config, threads)
    sys.stdout.write(as_text(foreseen) + "\n")
    write_json(plan, asdict(foreseen) | {"wall_seconds": foreseen.wall_seconds, "config": planned_for(config)})
    if foreseen.refused:
        raise SystemExit("this configuration does not work; see above")


if __name__ == "__main__":
    run_script(main, globals().get("snakemake"))
