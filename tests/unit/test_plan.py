"""What is foreseen, against counts made by hand."""

import numpy as np
import pytest

from unet.config import Config, ModelConfig, PredictConfig, load_config
from unet.cost import forward_cost
from unet.geometry import Grid
from unet.plan import as_text, hours, passes, plan_volume, training_flops
from unet.rotation import turned_planes
from unet.tile_choice import Task, TileChoice
from unet.tiling import tile_geometry
from unet.volume import Layout

TINY = {"depth": 2, "base_channels": 1, "dropout": 0}
LAYOUT = Layout((3, 40, 50), "uint8", (50, 4, 4), (0, 0, 0), (1, 16, 16), (2, 32, 32), None, False)


CHOSEN = TileChoice((1, 28, 28), 1, "as configured")  # 28 - 16 = 12 of output, so 12 apart
A_TILE = forward_cost(ModelConfig(**TINY), 2, CHOSEN.tile).flops


def task(layout: Layout = LAYOUT, classes: int = 2, stored: int = 1, **predict: object) -> Task:
    """The tiny network on a volume."""
    return Task(ModelConfig(**TINY), classes, stored, layout, PredictConfig(**predict))


def configuration(**predict: object) -> Config:
    """A tiny network on one volume."""
    volumes = {"train": {"raw": "a.tif", "labels": "b.tif"}}
    train = {"tile": 20, "steps": 10, "batch": 2}
    return load_config({"volumes": volumes, "model": TINY, "train": train, "predict": predict})


@pytest.mark.parametrize(("average", "passes"), [("none", 1), ("flips", 4), ("symmetries", 8)])
def test_tiles_blocks_jobs_and_operations_of_a_volume(average: str, passes: int) -> None:
    plan = plan_volume("train", task(average=average), CHOSEN, shard_voxels=2 * 32 * 32 * 3)
    assert (plan.blocks, plan.shards) == (2 * 2 * 2, 3)
    # Along y 0:32 meets the tiles at 0, 12, 24 and 32:40 those at 24, 36; along x 32:50 meets 24, 36, 48; each section.
    assert plan.tiles == 3 * (3 + 2) * (3 + 3)
    assert plan.flops == plan.tiles * passes * A_TILE


def test_rotations_are_counted_on_the_turned_blocks() -> None:
    plan, one = (plan_volume("v", t, CHOSEN, 10**9) for t in (task(average="rotations"), task()))
    planes = turned_planes(tile_geometry(ModelConfig(**TINY), 28))
    turned = sum(len(plane.cells(box)) for plane in planes for box in LAYOUT.grid.boxes())
    assert plan.tiles == one.tiles
    assert plan.flops == pytest.approx(turned * A_TILE)
    assert plan.job_memory.process > one.job_memory.process


def test_rotations_of_large_blocks_cost_seven_times_as_much_and_the_pixel_for_interpolation() -> None:
    geometry, grid = tile_geometry(ModelConfig(**TINY), 28), Grid((1, 600, 600), (1, 300, 300))
    assert geometry.output == geometry.stride == (1, 12, 12)  # of which rotations use 10, the next multiple of 2
    assert passes(grid, geometry, "rotations") == pytest.approx(7 * (12 / 10) ** 2, rel=0.1)


def test_disk_is_what_the_stores_hold_uncompressed() -> None:
    voxels = int(np.prod(LAYOUT.shape))
    one = plan_volume("train", task(), CHOSEN, 10**9)
    assert one.disk_bytes == pytest.approx(voxels * (4 / 3 * (1 + 1 + 4) + 8))
    three = plan_volume("train", task(classes=3, stored=3, dtype="float32"), CHOSEN, 10**9)
    assert three.disk_bytes == pytest.approx(voxels * (4 / 3 * (1 + 3 * 4 + 4) + 8))


def test_memory_follows_the_block_and_not_the_volume() -> None:
    deep = Layout(**{**vars(LAYOUT), "shape": (300, 400, 500)})
    larger = Layout(**{**vars(deep), "block": (4, 64, 64)})
    small, same, more = (
        plan_volume("v", task(layout), CHOSEN, 10**9).job_memory.process for layout in (LAYOUT, deep, larger)
    )
    assert small == same < more


def test_training_is_three_forward_passes_a_tile() -> None:
    config = configuration()
    assert training_flops(config, 2, (1, 20, 20)) == 3 * 10 * 2 * forward_cost(config.model, 2, (1, 20, 20)).flops


def test_the_table_is_for_people() -> None:
    plan = plan_volume("train", task(), CHOSEN, 10**9)
    text = as_text([plan], training=3.6e12, rate=1e9, device="CPU")
    for words in ("3 x 40 x 50", "3.6 TFLOP, about 1.0 h", "0.001 TFLOP/s", "files", "train: 28 x 28 in batches of 1"):
        assert words in text
    assert "GPU" not in text
    on_gpu = plan_volume("train", task(), CHOSEN, 10**9, kind="cuda")
    assert "GB of its GPU" in as_text([on_gpu], training=3.6e12, rate=1e9, device="CUDA")


def test_times_are_rounded_up() -> None:
    assert [hours(flops, 1e9) for flops in (1, 61e9, 5400e9)] == ["1 min", "2 min", "1.5 h"]
