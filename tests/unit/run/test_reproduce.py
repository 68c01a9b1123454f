"""Two runs compared: a table of a block is compared as arrays."""

from dataclasses import asdict
from pathlib import Path

import numpy as np

from tests.unit.volumes.test_volume import LAYOUT
from unet.run.reproduce import _in_block
from unet.storage.files import save_arrays, write_json
from unet.volumes.volume import Volume


def test_tables_are_compared_as_arrays(tmp_path: Path) -> None:
    box, runs = LAYOUT.grid.boxes()[1], (tmp_path / "was", tmp_path / "now")
    tables = [Volume(run / "volumes/train", LAYOUT).edge_tables("segmentation") for run in runs]
    for run in runs:
        write_json(run / "receipts/survey/train.json", {"layout": asdict(LAYOUT)})
    place = f"segmentation-tables/edges-*.npz of volume train, block {box}"
    assert _in_block(*runs, "train", [tables[0].name], box) == place, "none is there"
    for one in tables:
        save_arrays(one.of(box), {"u": np.array([1, 2])})
    assert _in_block(*runs, "train", [tables[0].name], box) is None
    save_arrays(tables[1].of(box), {"u": np.array([1, 3])})
    assert _in_block(*runs, "train", [tables[0].name], box) == place
