"""Packages that a plain install lacks: nothing loads them unasked, and a message says how to get them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.without import OPTIONAL, environment_without
from unet.extras import EXTRAS, is_installed, needs
from unet.jobs.dask_clients import dashboard_can_run
from unet.run.ro_crate import write_run_crate

ROOT = Path(__file__).parents[2]
LOAD_ALL = """
import importlib, pkgutil, runpy, sys
from pathlib import Path
import unet, snakemake_logger_plugin_unet_em
names = [module.name for module in pkgutil.walk_packages(unet.__path__, "unet.")]
for name in names:
    importlib.import_module(name)
scripts = sorted(Path("scripts").glob("*.py"))
for script in scripts:
    runpy.run_path(str(script))
print(len(names), len(scripts))
"""


def test_every_module_and_script_loads_without_the_optional_packages(tmp_path: Path) -> None:
    """Libraries that are loaded do without them, too: zarr, dask and torch."""
    environment = os.environ | environment_without(OPTIONAL | {"pandas"}, tmp_path, ROOT)
    command = [sys.executable, "-c", LOAD_ALL]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    modules, scripts = map(int, done.stdout.split())
    assert modules > 100
    assert scripts > 20


@pytest.mark.parametrize("package", EXTRAS)
def test_a_message_names_the_extra_and_a_command_that_installs_it(package: str) -> None:
    assert needs(package).startswith(f"needs {package}, of the extra {EXTRAS[package]}: pip install ")
    assert needs(package).endswith(f"--editable '.[{EXTRAS[package]}]'")


def test_what_is_installed_is_told_without_importing_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "obstore", raising=False)
    assert is_installed("dask-jobqueue")
    assert is_installed("obstore")
    assert "obstore" not in sys.modules
    monkeypatch.setitem(sys.modules, "obstore", None)
    assert not is_installed("obstore")


def test_without_rocrate_it_is_said_what_is_not_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "rocrate", None)
    assert write_run_crate(tmp_path, {}, ROOT) == (
        "ro-crate-metadata.json is not written: it needs rocrate, of the extra crate: "
        "pip install --constraint constraints.txt --editable '.[crate]'"
    )
    assert list(tmp_path.iterdir()) == []


def test_without_bokeh_the_log_of_a_job_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", logger="unet")
    assert dashboard_can_run()
    assert caplog.messages == []
    monkeypatch.setitem(sys.modules, "bokeh", None)
    assert not dashboard_can_run()
    assert caplog.messages == [
        "dask dashboard: none, since it needs bokeh, of the extra dashboard: "
        "pip install --constraint constraints.txt --editable '.[dashboard]'"
    ]
