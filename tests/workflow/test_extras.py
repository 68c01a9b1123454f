"""The workflow on a plain install: everything but the extras works, and what is left out is said once."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.without import OPTIONAL, environment_without

if TYPE_CHECKING:
    from pathlib import Path

    from tests.workflow.conftest import Project

ABSENT = OPTIONAL - {"snakemake_executor_plugin_slurm"}
"""The plugin for SLURM, which loads pandas, cannot be hidden so: Snakemake looks for the files of its plugins."""


@pytest.fixture
def plain(copy_of_finished: Project, tmp_path: Path) -> Project:
    """The finished run, on a plain install."""
    return replace(copy_of_finished, environment=environment_without(ABSENT, tmp_path / "site", copy_of_finished.root))


def test_the_plan_needs_no_extra(plain: Project) -> None:
    assert "predict" in plain.run("plan").output


def test_a_run_says_once_what_is_left_out(plain: Project) -> None:
    plain.configure({"predict": {"dashboard": True}})
    (plain.results / "report.html").unlink()
    predicted = plain.run("--forcerun", "predict", "--until", "predict")
    assert {"predict/train/0-of-2", "predict/train/1-of-2"} <= predicted.jobs
    assert predicted.output.count("needs bokeh, of the extra dashboard: pip install") == 1
    log = (plain.results / "logs/predict/train/0-of-2.log").read_text()
    assert log.count("dask dashboard: none, since it needs bokeh, of the extra dashboard: pip install") == 1
    ended = plain.run().output
    assert ended.count("ro-crate-metadata.json is not written: it needs rocrate, of the extra crate: pip install") == 1
    assert (plain.results / "provenance.json").exists()
    assert not (plain.results / "ro-crate-metadata.json").exists()
