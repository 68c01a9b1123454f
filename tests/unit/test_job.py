"""The bridge from rule to script: typed arguments in, a readable line and an exit status out."""

import json
import logging
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from unet.config import SegmentConfig
from unet.job import KILLED, run
from unet.receipts import write_json
from unet.sources import SourceError

SCRIPT = """
import sys, time
from pathlib import Path
from unet.job import KILLED, run
from unet.receipts import write_json

def main(receipt: Path, blocks: list[int], wait: bool = False, threads: int = 1) -> None:
    if wait:
        print("ready", flush=True)
        time.sleep(60)
    write_json(receipt, {"blocks": blocks, "threads": threads})

if __name__ == "__main__":
    run(main, globals().get("snakemake"))
"""


def snakemake(tmp_path: Path, **params: Any) -> SimpleNamespace:
    """What a rule hands to its script."""
    return SimpleNamespace(
        input={"survey": "survey.json", "shards": ["0-of-2.json", "1-of-2.json"]},
        output={"receipt": str(tmp_path / "receipt.json")},
        params={"code": "abc", **params},
        log=[str(tmp_path / "logs" / "job.log")],
        threads=3,
    )


def test_named_inputs_outputs_and_params_become_typed_arguments(tmp_path: Path) -> None:
    seen: dict[str, Any] = {}

    def main(survey: Path, shards: list[Path], receipt: Path, segment: SegmentConfig, threads: int) -> None:
        seen.update(locals())

    run(main, snakemake(tmp_path, segment={"threshold": 0.25, "minimum_size": 7}))
    assert seen["survey"] == Path("survey.json")
    assert seen["shards"] == [Path("0-of-2.json"), Path("1-of-2.json")]
    assert isinstance(seen["segment"], SegmentConfig)
    assert (seen["segment"].threshold, seen["segment"].minimum_size) == (0.25, 7)
    assert seen["threads"] == 3


def test_a_wrong_argument_is_a_defect_and_names_itself(tmp_path: Path) -> None:
    def main(receipt: Path, shard: int) -> None:
        raise AssertionError("must not start")

    for params in ({}, {"shard": "many"}):
        with pytest.raises(ValidationError, match="shard"):
            run(main, snakemake(tmp_path, **params))


REFUSALS = [SourceError("a.tif, section 3: 4 x 5, not 4 x 6"), FileNotFoundError(2, "No such file", "a.tif")]


@pytest.mark.parametrize("error", REFUSALS, ids=lambda error: type(error).__name__)
def test_bad_input_ends_with_one_readable_line_and_status_1(tmp_path: Path, error: Exception) -> None:
    def main(receipt: Path) -> None:
        raise error

    with pytest.raises(SystemExit) as stopped:
        run(main, snakemake(tmp_path))
    assert stopped.value.code == 1
    (line,) = (tmp_path / "logs" / "job.log").read_text().splitlines()
    assert line.endswith(f"ERROR {error}")


@pytest.mark.parametrize("error", [ZeroDivisionError("division by zero"), ValueError("shapes (3,) and (4,)")])
def test_a_defect_ends_with_its_traceback_in_the_log(tmp_path: Path, error: Exception) -> None:
    def main(receipt: Path) -> None:
        raise error

    with pytest.raises(type(error)):
        run(main, snakemake(tmp_path))
    log = (tmp_path / "logs" / "job.log").read_text()
    assert "Traceback" in log
    assert str(error) in log


def start(tmp_path: Path, **arguments: Any) -> subprocess.Popen[str]:
    """The script from a shell."""
    (tmp_path / "script.py").write_text(SCRIPT)
    values = json.dumps({"receipt": str(tmp_path / "r.json"), "blocks": [1, 2], **arguments})
    command = [sys.executable, str(tmp_path / "script.py"), values]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_from_a_shell_the_arguments_are_one_json_object(tmp_path: Path) -> None:
    assert start(tmp_path, threads=2).wait(60) == 0
    assert json.loads((tmp_path / "r.json").read_text()) == {"blocks": [1, 2], "threads": 2}


def test_sigterm_ends_with_status_143_and_a_line_that_says_how_to_go_on(tmp_path: Path) -> None:
    job = start(tmp_path, wait=True)
    assert job.stdout is not None
    assert job.stdout.readline() == "ready\n"
    os.kill(job.pid, signal.SIGTERM)
    _, errors = job.communicate(timeout=60)
    assert job.returncode == 143
    assert "run again to continue" in errors
    assert "Traceback" not in errors
    assert not (tmp_path / "r.json").exists()


def test_the_log_begins_anew_with_every_run(tmp_path: Path) -> None:
    def main(receipt: Path) -> None:
        logging.getLogger("unet").info("one block")
        write_json(receipt, {})

    for _ in range(2):
        run(main, snakemake(tmp_path))
    assert (tmp_path / "logs" / "job.log").read_text().count("one block") == 1


def test_a_job_leaves_what_it_used_beside_its_log(tmp_path: Path) -> None:
    before = int(re.search(r"VmRSS:\s*(\d+)", Path("/proc/self/status").read_text())[1]) / 1024

    def main(receipt: Path) -> None:
        held = b"x" * (300 * 2**20)
        assert len(held) == 300 * 2**20

    run(main, snakemake(tmp_path))
    used = json.loads((tmp_path / "logs" / "job.usage").read_text())
    assert used["peak_mb"] > before + 290
    assert 0 < used["processor_seconds"] <= sum(os.times()[:4]) + 0.1


def test_why_a_job_failed_is_beside_its_log_until_it_ends_well(tmp_path: Path) -> None:
    note = tmp_path / "logs/job.error"

    def main(receipt: Path) -> None:
        seen.append(json.loads(note.read_text())["message"])
        if len(seen) < 3:
            raise (SourceError("a.tif: cut short"), KeyError("shape"))[len(seen) - 1]

    seen: list[str] = []
    for wanted in ("a.tif: cut short", "a defect of the program, KeyError: 'shape'"):
        with pytest.raises((SystemExit, KeyError)):
            run(main, snakemake(tmp_path))
        assert json.loads(note.read_text()) == {"message": wanted}
    run(main, snakemake(tmp_path))
    assert not note.exists()
    assert seen == [KILLED] * 3, "as long as it runs: a job that is killed cannot say so itself"
