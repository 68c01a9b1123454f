"""What is foreseen, against counts made by hand."""

import numpy as np
import pytest
import torch

from unet.config import Config, ModelConfig, load_config
from unet.geometry import Grid
from unet.plan import as_text, forward_flops, hours, measured_rate, passes, plan_volume, tile_count, training_flops
from unet.rotation import turned_planes
from unet.tiling import tile_geometry, tiles_for
from unet.volume import Layout

TINY = {"depth": 2, "base_channels": 1, "dropout": 0}
LAYOUT = Layout((3, 40, 50), "uint8", (50, 4, 4), (0, 0, 0), (1, 16, 16), (2, 32, 32), None, False)


def configuration(**predict: object) -> Config:
    """A tiny network on one volume."""
    volumes = {"train": {"raw": "a.tif", "labels": "b.tif"}}
    train = {"tile": 20, "steps": 10, "batch": 2}
    return load_config({"volumes": volumes, "model": TINY, "train": train, "predict": predict})


def test_operations_of_a_forward_pass_counted_by_hand() -> None:
    # Input 20, U-Net of depth 2 with 1 and 2 channels; sides after each 3x3: 18 16 | 8: 6 4 | 8: 6 4.
    three_by_three = 9 * (18**2 * 1 + 16**2 * 1 + 6**2 * 1 * 2 + 4**2 * 2 * 2 + 6**2 * 2 * 1 + 4**2 * 1 * 1)
    up_2_to_1 = 4**2 * 2 * 1 * 4  # each of 4 x 4 voxels of 2 channels makes 2 x 2 voxels of 1
    one_by_one = 4**2 * 1 * 2  # to 2 classes
    expected = 2 * (three_by_three + up_2_to_1 + one_by_one)  # a multiplication and an addition each
    assert forward_flops(ModelConfig(**TINY), 2, (1, 20, 20)) == expected


def test_operations_of_the_papers_network() -> None:
    macs, side, before = 0, 572, 1
    for channels in (64, 128, 256, 512, 1024):
        macs += 9 * (side - 2) ** 2 * before * channels + 9 * (side - 4) ** 2 * channels**2
        side, before = (side - 4) // 2, channels
    side *= 2  # the deepest level is not pooled
    for channels in (512, 256, 128, 64):
        macs += 4 * side**2 * 2 * channels * channels
        macs += 9 * (2 * side - 2) ** 2 * 2 * channels * channels + 9 * (2 * side - 4) ** 2 * channels**2
        side = 2 * side - 4
    assert side == 388
    assert forward_flops(ModelConfig(), 2, (1, 572, 572)) == 2 * (macs + 388**2 * 64 * 2)


@pytest.mark.parametrize(("average", "passes"), [("none", 1), ("flips", 4), ("symmetries", 8)])
def test_tiles_blocks_jobs_and_operations_of_a_volume(average: str, passes: int) -> None:
    config = configuration(average=average)
    geometry = tile_geometry(config.model, 28)  # 28 - 16 = 12 of output, so 12 apart
    plan = plan_volume("train", LAYOUT, config, geometry, ["membrane", "interior"], shard_voxels=2 * 32 * 32 * 3)
    assert (plan.blocks, plan.shards) == (2 * 2 * 2, 3)
    # Along y 0:32 meets the tiles at 0, 12, 24 and 32:40 those at 24, 36; along x 32:50 meets 24, 36, 48; each section.
    assert plan.tiles == 3 * (3 + 2) * (3 + 3)
    assert plan.flops == plan.tiles * passes * forward_flops(config.model, 2, geometry.input)


def test_rotations_are_counted_on_the_turned_blocks() -> None:
    config, plain = configuration(average="rotations"), configuration()
    geometry = tile_geometry(config.model, 28)
    plan, one = (plan_volume("v", LAYOUT, c, geometry, ["a", "b"], 10**9) for c in (config, plain))
    turned = sum(len(plane.cells(box)) for plane in turned_planes(geometry) for box in LAYOUT.grid.boxes())
    assert plan.tiles == one.tiles
    assert plan.flops == pytest.approx(turned * forward_flops(config.model, 2, geometry.input))
    assert plan.job_memory_bytes > one.job_memory_bytes


def test_rotations_of_large_blocks_cost_seven_times_as_much_and_the_pixel_for_interpolation() -> None:
    geometry, grid = tile_geometry(ModelConfig(**TINY), 28), Grid((1, 600, 600), (1, 300, 300))
    assert geometry.output == geometry.stride == (1, 12, 12)  # of which rotations use 10, the next multiple of 2
    assert passes(grid, geometry, "rotations") == pytest.approx(7 * (12 / 10) ** 2, rel=0.1)


@pytest.mark.parametrize("tile", [20, 28, 36, 60])
@pytest.mark.parametrize("block", [(1, 16, 16), (2, 25, 31), (8, 64, 64)])
def test_tiles_are_counted_without_listing_them(tile: int, block: tuple[int, ...]) -> None:
    grid, geometry = Grid(LAYOUT.shape, block), tile_geometry(ModelConfig(**TINY), tile)
    assert tile_count(grid, geometry) == sum(len(tiles_for(box, geometry)) for box in grid.boxes())


def test_disk_is_what_the_stores_hold_uncompressed() -> None:
    geometry = tile_geometry(configuration().model, 28)
    voxels = int(np.prod(LAYOUT.shape))
    one = plan_volume("train", LAYOUT, configuration(), geometry, ["a", "b"], 10**9)
    assert one.disk_bytes == pytest.approx(voxels * (4 / 3 * (1 + 1 + 4) + 8))
    three = plan_volume("train", LAYOUT, configuration(dtype="float32"), geometry, ["a", "b", "c"], 10**9)
    assert three.disk_bytes == pytest.approx(voxels * (4 / 3 * (1 + 3 * 4 + 4) + 8))


def test_memory_follows_the_block_and_not_the_volume() -> None:
    geometry, classes = tile_geometry(configuration().model, 28), ["a", "b"]
    deep = Layout(**{**vars(LAYOUT), "shape": (300, 400, 500)})
    larger = Layout(**{**vars(deep), "block": (4, 64, 64)})
    small, same, more = (
        plan_volume("v", layout, configuration(), geometry, classes, 10**9).job_memory_bytes
        for layout in (LAYOUT, deep, larger)
    )
    assert small == same < more


def test_training_is_three_forward_passes_a_tile() -> None:
    config = configuration()
    assert training_flops(config, 2, (1, 20, 20)) == 3 * 10 * 2 * forward_flops(config.model, 2, (1, 20, 20))


def test_the_measured_rate_and_the_table_are_for_people() -> None:
    rate = measured_rate(torch.device("cpu"), seconds=0.01)
    assert rate > 1e7
    config = configuration()
    plan = plan_volume("train", LAYOUT, config, tile_geometry(config.model, 28), ["a", "b"], 10**9)
    text = as_text([plan], training=3.6e12, rate=1e9, device="CPU")
    for words in ("3 x 40 x 50", "3.6 TFLOP, about 1.0 h", "0.001 TFLOP/s", "memory", "files"):
        assert words in text


def test_times_are_rounded_up() -> None:
    assert [hours(flops, 1e9) for flops in (1, 61e9, 5400e9)] == ["1 min", "2 min", "1.5 h"]
