"""`--resources gpu=2` on a machine without a GPU: two jobs at once share the cores out; one alone has them all."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.workflow.conftest import Project

SHARDS = ("0-of-2", "1-of-2")


@pytest.mark.parametrize(("jobs", "threads"), [(1, 2), (2, 1)])
def test_jobs_at_once_divide_the_cores(finished: Project, copy_of_finished: Project, jobs: int, threads: int) -> None:
    project = copy_of_finished
    shutil.rmtree(project.results / "receipts/predict")
    shutil.rmtree(project.store("probability"))
    ran = project.run(
        *(f"results/receipts/predict/train/{block_range}.json" for block_range in SHARDS), "--resources", f"gpu={jobs}"
    )
    for block_range in SHARDS:
        assert project.receipt("predict", "train", block_range)["run"]["threads"] == threads
    events = re.findall(r"predict train \S+ \.\.\.|\] predict train", ran.output)
    first_end = next(place for place, event in enumerate(events) if event.startswith("]"))
    assert first_end == jobs, "so many jobs have begun before one ends"
    assert project.content("probability") == finished.content("probability")
