"""Scripts of rules: typed arguments in, a readable error and an exit status out."""

import errno
import inspect
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest
from pydantic import ValidationError

from unet.config.segment import SegmentConfig
from unet.jobs.script import KILLED, run_script
from unet.storage.files import write_json
from unet.volumes.readers.open import SourceError

SCRIPT = """
import sys, time
from pathlib import Path
from unet.storage.files import write_json
from unet.jobs.script import KILLED, run_script

def main(receipt: Path, blocks: list[int], wait: bool = False, threads: int = 1) -> None:
    if wait:
        print("ready", flush=True)
        time.sleep(60)
    write_json(receipt, {"blocks": blocks, "threads": threads})

if __name__ == "__main__":
    run_script(main, globals().get("snakemake"))
"""


def snakemake(tmp_path: Path, **params: Any) -> SimpleNamespace:
    """Return the object that a rule passes to its script."""
    return SimpleNamespace(
        input={"survey": "survey.json", "block_ranges": ["0-of-2.json", "1-of-2.json"]},
        output={"receipt": str(tmp_path / "receipt.json")},
        params={"code": "abc", **params},
        log=[str(tmp_path / "logs" / "job.log")],
        threads=3,
    )


def test_named_inputs_outputs_and_params_become_typed_arguments(tmp_path: Path) -> None:
    seen: dict[str, Any] = {}

    def main(survey: Path, block_ranges: list[Path], receipt: Path, segment: SegmentConfig, threads: int) -> None:
        seen.update(locals())

    run_script(main, snakemake(tmp_path, segment={"threshold": 0.25, "min_size": 7}))
    assert seen["survey"] == Path("survey.json")
    assert seen["block_ranges"] == [Path("0-of-2.json"), Path("1-of-2.json")]
    assert isinstance(seen["segment"], SegmentConfig)
    assert (seen["segment"].threshold, seen["segment"].min_size) == (0.25, 7)
    assert seen["threads"] == 3


def test_a_wrong_argument_is_a_defect_and_names_itself(tmp_path: Path) -> None:
    def main(receipt: Path, block_range: int) -> None:
        raise AssertionError("must not start")

    for params in ({}, {"block_range": "many"}):
        with pytest.raises(ValidationError, match="block_range"):
            run_script(main, snakemake(tmp_path, **params))


def of_package() -> None:
    raise SourceError("a.tif, section 3: 4 x 5, not 4 x 6")


def of_the_system() -> None:
    Path("/not/there.tif").read_bytes()


def of_a_full_disk() -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


NO_SPACE_ADVICE = (
    "free some there, or begin in another folder (results). `snakemake plan` says how much a run needs; what is "
    "finished is kept, run again to continue"
)


@pytest.mark.parametrize(
    ("fail", "sentence"),
    [
        (of_package, "a.tif, section 3: 4 x 5, not 4 x 6"),
        (of_the_system, "/not/there.tif: No such file or directory; correct the path, or bring the file back"),
        (of_a_full_disk, f"No space left on device; {NO_SPACE_ADVICE}"),
    ],
)
def test_bad_input_ends_with_one_line_on_the_terminal_and_its_traceback_in_the_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], fail: Callable[[], None], sentence: str
) -> None:
    def main(receipt: Path) -> None:
        fail()

    with pytest.raises(SystemExit) as stopped:
        run_script(main, snakemake(tmp_path))
    assert stopped.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(f"ERROR {sentence}")
    log = (tmp_path / "logs" / "job.log").read_text()
    assert log.splitlines()[-1] == line
    assert f"in {fail.__name__}\n" in log
    assert "Traceback" in log


def of_arithmetic() -> None:
    raise ZeroDivisionError("division by zero")


def of_numpy() -> None:
    np.zeros(3) + np.zeros(4)


def of_a_library_about_some_file(path: Path) -> None:
    path.write_bytes(b"not HDF5")
    h5py.File(path)


@pytest.mark.parametrize("fail", [of_arithmetic, of_numpy, of_a_library_about_some_file])
def test_a_defect_shows_its_traceback_on_the_terminal_and_in_the_log(tmp_path: Path, fail: Callable[..., None]) -> None:
    def main(receipt: Path) -> None:
        fail(*[tmp_path / "a.h5"][: len(inspect.signature(fail).parameters)])

    with pytest.raises((ZeroDivisionError, ValueError, OSError)) as failed:
        run_script(main, snakemake(tmp_path))
    log = (tmp_path / "logs" / "job.log").read_text()
    assert f"in {fail.__name__}\n" in log
    assert str(failed.value) in log.splitlines()[-1]


def test_libraries_do_not_fill_the_log(tmp_path: Path) -> None:
    def main(receipt: Path) -> None:
        for name in ("unet.network.engine", "asyncio"):
            logging.getLogger(name).debug("%s says much", name)

    run_script(main, snakemake(tmp_path))
    assert (tmp_path / "logs" / "job.log").read_text().split(maxsplit=2)[2] == "unet.network.engine says much\n"


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ([], "0 arguments given, one is needed, in quotes"),
        (["{", "}"], "2 arguments given"),
        (["{receipt: a}"], "Expecting property name"),
        (["[1]"], "has to be a JSON object, not [1]"),
    ],
)
def test_by_hand_a_script_says_what_it_takes(tmp_path: Path, given: list[str], problem: str) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    result = subprocess.run([sys.executable, tmp_path / "script.py", *given], capture_output=True, text=True)
    assert result.returncode == 2
    assert problem in result.stderr.splitlines()[0]
    assert "usage: python scripts/script.py ARGUMENTS" in result.stderr
    assert "  blocks: list[int]\n  wait: bool = False\n" in result.stderr
    assert "Traceback" not in result.stderr


def start(tmp_path: Path, **arguments: Any) -> subprocess.Popen[str]:
    """Run the script from a shell."""
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
    _, errors = job.communicate(timeout=300)
    assert job.returncode == 143
    assert "run again to continue" in errors
    assert "Traceback" not in errors
    assert not (tmp_path / "r.json").exists()


def test_a_sigterm_that_arrives_in_a_finaliser_is_not_lost(tmp_path: Path) -> None:
    class Dropped:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0)  # where the signal is answered

    def main(receipt: Path) -> None:
        Dropped()
        Event().wait(60)
        write_json(receipt, {})

    with pytest.raises(SystemExit) as ended:
        run_script(main, snakemake(tmp_path))
    assert ended.value.code == 143
    assert not (tmp_path / "r.json").exists()


def test_the_log_begins_anew_with_every_run(tmp_path: Path) -> None:
    def main(receipt: Path) -> None:
        logging.getLogger("unet").info("one block")
        write_json(receipt, {})

    for _ in range(2):
        run_script(main, snakemake(tmp_path))
    assert (tmp_path / "logs" / "job.log").read_text().count("one block") == 1


HOLDER = """
import re, sys
from pathlib import Path
from types import SimpleNamespace
from unet.jobs.script import run_script

def main(receipt: Path) -> None:
    held = b"x" * (300 * 2**20)
    assert len(held) == 300 * 2**20

print(re.search(r"VmRSS:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])
run_script(main, SimpleNamespace(input={}, output={"receipt": "receipt.json"}, params={}, log=["job.log"], threads=1))
"""


def test_a_job_leaves_what_it_used_beside_its_log(tmp_path: Path) -> None:
    """Run the job in a process of its own, where other tests have left nothing to be freed."""
    done = subprocess.run([sys.executable, "-c", HOLDER], cwd=tmp_path, capture_output=True, text=True, check=True)
    used = json.loads((tmp_path / "job.usage").read_text())
    assert int(done.stdout) / 1024 + 290 < used["peak_mb"] < int(done.stdout) / 1024 + 400
    assert 0 < used["processor_seconds"] < 60


def test_why_a_job_failed_is_beside_its_log_until_it_ends_well(tmp_path: Path) -> None:
    note = tmp_path / "logs/job.error"

    def main(receipt: Path) -> None:
        seen.append(json.loads(note.read_text())["message"])
        if len(seen) < 3:
            raise (SourceError("a.tif: cut short"), KeyError("shape"))[len(seen) - 1]

    seen: list[str] = []
    for wanted in ("a.tif: cut short", "a defect of the program, KeyError: 'shape'"):
        with pytest.raises((SystemExit, KeyError)):
            run_script(main, snakemake(tmp_path))
        assert json.loads(note.read_text()) == {"message": wanted}
    run_script(main, snakemake(tmp_path))
    assert not note.exists()
    assert seen == [KILLED] * 3, "as long as it runs: a job that is killed cannot say so itself"
