"""The layout of a volume, as a receipt has it."""

from dataclasses import asdict
from pathlib import Path

from unet.storage.files import write_receipt
from unet.volumes.layout import VolumeLayout

LAYOUT = VolumeLayout((3, 40, 50), "uint8", (50.0, 4.0, 4.0), (0.0, 0.0, 0.0), (1, 16, 16), (2, 32, 32), None, False)


def test_a_layout_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_receipt(tmp_path / "v.json", {"rule": "survey", "layout": asdict(LAYOUT)})
    assert VolumeLayout.read(tmp_path / "v.json") == LAYOUT


def test_results_of_another_version_can_be_planned_on(tmp_path: Path) -> None:
    """They may have keys that are gone: `survey` runs again, but until then the receipt is read."""
    write_receipt(tmp_path / "v.json", {"rule": "survey", "layout": {**asdict(LAYOUT), "decoded_sections": 4}})
    assert VolumeLayout.read(tmp_path / "v.json") == LAYOUT
