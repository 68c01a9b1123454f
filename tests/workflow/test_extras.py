"""The workflow on a plain install: everything but the extras works, and what is left out is said once."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.without import OPTIONAL, environment_without

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Project

ABSENT = (OPTIONAL | {"pandas"}) - {"snakemake_executor_plugin_slurm"}
"""Snakemake looks for the files of its plugins: the plugin for SLURM cannot be hidden from it in this way."""


@pytest.fixture
def plain(copy_of_finished: Project, tmp_path: Path) -> Project:
    """The finished run, on a plain install."""
    return replace(copy_of_finished, environment=environment_without(ABSENT, tmp_path / "site", copy_of_finished.root))


def test_the_plan_needs_no_extra(plain: Project) -> None:
    assert "predict" in plain.run("plan").output


def test_a_prediction_and_the_end_of_a_run_say_what_is_left_out(plain: Project) -> None:
    receipt = plain.results / "receipts/predict/train/0-of-2.json"
    (plain.results / "report.html").unlink()
    ended = plain.run("--forcerun", "predict", "--until", "predict").output
    log = (plain.results / "logs/predict/train/0-of-2.log").read_text()
    assert receipt.exists()
    assert log.count("dask dashboard: none, since it needs bokeh, of the extra dashboard: pip install") == 1
    ended = plain.run().output
    assert ended.count("ro-crate-metadata.json is not written: it needs rocrate, of the extra crate: pip install") == 1
    assert (plain.results / "provenance.json").exists()
    assert not (plain.results / "ro-crate-metadata.json").exists()
