"""What jobs ask a scheduler for: it grows with the volume, the network and the attempt, and holds what was measured."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from unet.config import Config, ModelConfig, load_config
from unet.plan import forward_flops
from unet.resources import COSTS, Share, flops_a_voxel, memory_mb, minutes

BLOCK = (16, 1024, 1024)


def config(**sections: Any) -> Config:
    """A configuration with one volume, and sections."""
    return load_config({"volumes": {"train": {"raw": "raw.tif", "labels": "labels.tif"}}, **sections})


def layout(shape: tuple[int, int, int], dtype: str = "uint8", channels: int = 1) -> Any:
    """What the survey of a volume says of it."""
    return SimpleNamespace(shape=shape, block=BLOCK, dtype=dtype, channels=channels)


def test_the_share_of_a_job() -> None:
    """Two volumes; the second is smaller than a block of 16 x 1024 x 1024 along y, and has 2 x 2 bytes a voxel."""
    layouts = [layout((32, 2048, 2048)), layout((16, 500, 1024), "uint16", channels=2)]
    share = Share.of(config(), layouts, job=2**26)
    assert share == Share(2**24, 2**22, 2**27 + 16 * 500 * 1024, 2**26, 4)
    assert Share.of(config(), layouts[1:], job=2**26).job == 16 * 500 * 1024


def test_before_the_survey_a_volume_of_one_job_is_assumed() -> None:
    assert Share.of(config(), [], job=2**28) == Share(2**24, 2**20, 2**28, 2**28, 2)


@pytest.mark.parametrize("rule", COSTS)
def test_a_retry_has_more_of_both(rule: str) -> None:
    share = Share.of(config(), [layout((64, 4096, 4096))], 2**28)
    first, third = ((memory_mb(rule, config(), share, 4, n), minutes(rule, config(), share, n)) for n in (1, 3))
    assert third == (3 * first[0], 3 * first[1])
    assert min(first) > 0


MEASURED = {
    "ingest": 515,
    "targets": 505,
    "weight_map": 796,
    "segment": 517,
    "relabel": 449,
    "sweep": 753,
    "predict": 729,
    "fit": 238,
    "survey": 73,
    "grey_values": 56,
}
"""Largest resident size in MB on 32 x 2048 x 2048 voxels, two threads, two jobs, a tiny network (2026-11-25)."""


@pytest.mark.parametrize("rule", MEASURED)
def test_what_was_measured_is_held_and_not_much_more(rule: str) -> None:
    tiny = config(model={"depth": 2, "base_channels": 2}, predict={"tile": 48}, train={"tile": 48})
    asked = memory_mb(rule, tiny, Share.of(tiny, [layout((32, 2048, 2048))], 2**26), threads=2)
    assert MEASURED[rule] < asked < MEASURED[rule] * 2 + 500


@pytest.mark.parametrize(
    "model",
    [
        {},
        {"depth": 4, "base_channels": 16},
        {"depth": 3, "base_channels": 8, "upsampling": "bilinear"},
        {"dimensions": 3, "depth": 3, "base_channels": 8},
        {"dimensions": 3, "depth": 3, "base_channels": 8, "pooling": [[1, 2, 2], [2, 2, 2]]},
    ],
)
def test_arithmetic_a_voxel_is_that_of_the_network_itself(model: dict[str, Any]) -> None:
    network = ModelConfig(**model, convolution="same")
    tile = (1, 128, 128) if network.dimensions == 2 else (32, 64, 64)
    counted = forward_flops(network, 2, tile) / (tile[0] * tile[1] * tile[2])
    assert flops_a_voxel(network) == pytest.approx(counted, rel=0.1)


def test_prediction_and_training_take_longer_with_more_arithmetic() -> None:
    share = Share.of(config(), [layout((64, 4096, 4096))], 2**28)
    small = config(model={"base_channels": 8}, predict={"average": "flips"}, train={"steps": 100})
    for rule in ("predict", "train"):
        assert minutes(rule, config(), share) > minutes(rule, small, share)
    assert minutes("predict", small, share) > minutes("predict", small, replace(share, job=2**20))
    two = config(train={"gpus": 2})
    assert memory_mb("train", two, share, 8) > memory_mb("train", config(), share, 8)
