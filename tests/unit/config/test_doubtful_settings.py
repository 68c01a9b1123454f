"""Settings that are allowed and rarely meant."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from unet.config.doubtful_settings import doubtful_settings
from unet.config.root import load_config

ROOT = Path(__file__).parents[3]
CONFIGURATIONS = [ROOT / "config/config.yaml", *sorted((ROOT / "config/examples").glob("*.yaml"))]


def told(volume: dict[str, Any], other: dict[str, Any] | None = None, **sections: Any) -> list[str]:
    """Return the sentences about volume `em`, and a volume `other` that is predicted as well."""
    volumes = {"em": {"raw": "a.tif", "labels": "b.tif", **volume}} | ({"other": other} if other else {})
    sections = {"train": {"volumes": ["em"]}, "predict": {"volumes": list(volumes)}} | sections
    return doubtful_settings(load_config({"volumes": volumes, **sections}))


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda path: path.stem)
def test_nothing_is_doubtful_in_the_configurations_of_the_repository(path: Path) -> None:
    assert doubtful_settings(load_config(yaml.safe_load(path.read_text()))) == []


def test_voxel_sizes_in_the_order_x_y_z_are_told_with_the_other_order() -> None:
    assert told({"voxel_size_nm": [50, 4, 8]}) == told({"voxel_size_nm": [8, 8, 8]}) == []
    (said,) = told({"voxel_size_nm": [4, 4, 50]})
    assert "volumes.em.voxel_size_nm is [4, 4, 50]" in said
    assert said.endswith("for x, y, z write [50, 4, 4]")


def test_a_warm_up_that_never_ends_is_told() -> None:
    train = {"volumes": ["em"], "steps": 90}
    assert told({}, train=train) == told({}, train={**train, "warmup_steps": 89}) == []  # the default is not told
    assert "train.warmup_steps is 90, and train.steps is 90" in told({}, train={**train, "warmup_steps": 90})[0]


def test_intensities_that_are_the_labels_of_another_volume_are_told() -> None:
    assert told({}, {"raw": "c.tif"}) == []
    assert told({}, {"raw": "./b.tif"}) == [
        "volumes.other.raw and volumes.em.labels are both ./b.tif; which of them is meant?"
    ]


def test_a_file_that_is_listed_twice_is_told() -> None:
    channels = [{"path": "a.tif", "channels": [0]}, {"path": "a.tif", "channels": [1]}]
    assert told({"raw": channels}) == told({"raw": ["a.tif", "c.tif"]}) == []
    assert told({"raw": ["a.tif", "./a.tif"]}) == ["volumes.em.raw lists a.tif 2 times; list it once"]
