"""The state that `snakemake view` writes for another server, and how it says what is missing."""

import sys
from pathlib import Path
from typing import Any

import pytest

from tests.scripts.conftest import main_of
from tests.unit.run.view.stores import arrays, write_run
from unet.run.view.layers import ViewError
from unet.storage.files import read_json


def view(folder: Path, **view: Any) -> None:
    """Run the script on a run in a folder."""
    main_of("view")(write_run(folder, {}, view=view))


def test_a_state_is_written_for_another_server(tmp_path: Path) -> None:
    write_run(tmp_path / "results", {"raw": arrays()["raw"]})
    file = tmp_path / "view.json"
    view(tmp_path / "results", state=str(file), address="https://lab.org/run", position=[1, 2, 3])
    state = read_json(file)
    assert [layer["source"] for layer in state["layers"]] == ["zarr://https://lab.org/run/volumes/v/raw.zarr"]
    assert state["position"] == [6 + 3, 5 + 2, 3 + 1]


def test_without_an_address_no_state_is_written(tmp_path: Path) -> None:
    file = tmp_path / "view.json"
    with pytest.raises(ViewError, match=r"view\.state needs view\.address: the address at which your server has"):
        view(tmp_path, state=str(file))
    assert not file.exists()


def test_a_missing_neuroglancer_is_told_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "neuroglancer", None)
    with pytest.raises(ViewError, match=r"`snakemake view` needs neuroglancer, of the extra view: pip install "):
        view(tmp_path)
