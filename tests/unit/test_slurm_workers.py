"""Workers that are SLURM jobs, without a SLURM: what is missing is told. `tests/cluster` has the rest."""

import sys
from pathlib import Path

import pytest

from unet.config import SlurmConfig, load_config
from unet.slurm_workers import NoWorkersError, at_slurm


def test_without_dask_jobqueue_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "dask_jobqueue", None)
    with pytest.raises(NoWorkersError, match=r"pip install 'unet-em\[slurm\]'"), at_slurm(SlurmConfig(), 1, tmp_path):
        pass


def test_without_slurm_the_error_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoWorkersError, match="no sbatch on this machine"), at_slurm(SlurmConfig(), 1, tmp_path):
        pass


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"slurm": {"time_limit_minutes": 30}}, r"leave at once: time_limit_minutes 30 .* is -5"),
        ({"predict": {"dask": "slurm", "scheduler": "tcp://a:1"}}, "two places to predict"),
        ({"slurm": {"walltime": 30}}, r"slurm.walltime: unknown key; allowed here: workers, partition"),
    ],
)
def test_impossible_settings_are_told(sections: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_config({"volumes": {"train": {"raw": "a", "labels": "b"}}, **sections})
