"""Estimates of the plan, against counts made by hand."""

from math import inf, prod

import numpy as np
import pytest

from unet.config.model import ModelConfig
from unet.config.plan import PlanConfig
from unet.config.predict import PredictConfig
from unet.config.root import Config, load_config
from unet.geometry.pyramid import pyramid_factors
from unet.geometry.tiling import tile_geometry
from unet.network.complexity import forward_cost, training_flops
from unet.network.rotation import rotated_lattices
from unet.network.tile_selection import PredictionTask
from unet.run.merge_parts import VOXELS_PER_FRAGMENT
from unet.run.plan.disk import FLOATS, IDS, RAW, store_plans
from unet.run.plan.limits import Free, advice_on_blocks, errors_of, warnings_of
from unet.run.plan.network_cost import passes
from unet.run.plan.plan import ComputeResources, Planner, RunPlan, VolumePlan, price_of
from unet.run.plan.text import as_text, hours
from unet.run.rules import RULES
from unet.volumes.layout import VolumeLayout

TINY = {"depth": 2, "base_channels": 1, "dropout": 0}
LAYOUT = VolumeLayout((3, 40, 50), "uint8", (50, 4, 4), (0, 0, 0), (1, 16, 16), (2, 32, 32), None, False)


TILE = (1, 28, 28)
"""28 - 16 = 12 of output, so 12 apart"""


def flops_of_a_tile() -> int:
    """Operations of a forward pass of one tile."""
    return forward_cost(ModelConfig(**TINY), 2, TILE).flops


def configuration(**predict: object) -> Config:
    """A tiny network on one volume."""
    volumes = {"train": {"raw": "a.tif", "labels": "b.tif"}}
    train = {"tile": 20, "steps": 10, "batch": 2}
    return load_config(
        {"volumes": volumes, "model": TINY, "train": train, "predict": {"tile": 28, "batch": 1, **predict}}
    )


def planned_volume(layout: VolumeLayout = LAYOUT, **predict: object) -> VolumePlan:
    """The plan of one volume on a processor of one core."""
    planner = Planner(
        configuration(**predict), ["membrane", "interior"], {"v": layout}, ComputeResources(1, 0, "cpu", 1)
    )
    return planner.volume("v")


@pytest.mark.parametrize(("average", "passes"), [("none", 1), ("flips", 4), ("symmetries", 8)])
def test_tiles_blocks_jobs_and_operations_of_a_volume(average: str, passes: int) -> None:
    plan = planned_volume(test_time_augmentation=average, job_voxels=3 * 2 * 32 * 32)
    assert (plan.blocks, plan.block_ranges) == (2 * 2 * 2, 3)
    # Along y 0:32 meets the tiles at 0, 12, 24 and 32:40 those at 24, 36; along x 32:50 meets 24, 36, 48; each section.
    assert plan.tiles == 3 * (3 + 2) * (3 + 3)
    assert plan.flops == plan.tiles * passes * flops_of_a_tile()


def test_rotations_are_counted_on_the_turned_blocks() -> None:
    plan, one = planned_volume(test_time_augmentation="rotations"), planned_volume()
    lattices = rotated_lattices(tile_geometry(ModelConfig(**TINY), 28))
    turned = sum(len(lattice.cells(box)) for lattice in lattices for box in LAYOUT.grid.boxes())
    assert plan.tiles == one.tiles
    assert plan.flops == pytest.approx(turned * flops_of_a_tile())
    assert plan.job_memory.process > one.job_memory.process


def test_rotations_of_large_blocks_cost_seven_times_as_much_and_the_pixel_for_interpolation() -> None:
    layout = VolumeLayout(**{**vars(LAYOUT), "shape": (1, 600, 600), "block": (1, 300, 300)})
    task = PredictionTask(ModelConfig(**TINY), 2, 1, layout, PredictConfig(test_time_augmentation="rotations"))
    geometry = task.geometry(TILE)
    assert geometry.output == geometry.stride == (1, 12, 12)  # of which rotations use 10, the next multiple of 2
    assert passes(task, TILE) == pytest.approx(7 * (12 / 10) ** 2, rel=0.1)


def test_disk_is_what_the_stores_hold_compressed_and_files_are_blocks_and_metadata() -> None:
    """8 blocks; two levels, since halves of 40 x 50 px in blocks of 32 x 32 still fill more than one."""
    config = configuration(volumes=["train"], dtype="float32")
    stores = {one.store: one for one in store_plans(config, "train", LAYOUT, stored=3)}
    voxels, levels = int(np.prod(LAYOUT.shape)), len(pyramid_factors(LAYOUT.shape, LAYOUT.block, LAYOUT.voxel_size_nm))
    assert set(stores) == {
        *("raw", "labels", "targets", "weights", "probability"),
        *("segmentation-fragments", "segmentation-tables", "segmentation"),
    }
    assert stores["segmentation-fragments"].bytes == pytest.approx(IDS * voxels)
    assert stores["raw"].bytes == pytest.approx(RAW * voxels * sum(0.25**level for level in range(levels)))
    pyramid = sum(0.25**level for level in range(levels))
    assert stores["probability"].bytes == pytest.approx(3 * 4 * FLOATS * voxels * pyramid)  # 3 classes of 4 bytes
    assert stores["raw"].files == 8 * levels + levels + 1
    assert (stores["segmentation-fragments"].files, stores["segmentation-tables"].files) == (8 + 2, 8 + 6)


def test_each_candidate_of_the_decoder_takes_a_share_of_the_disk() -> None:
    """8 blocks; three sets of fragments, for classes with one graph each: six tables a block."""
    config = configuration(volumes=["train"]).model_dump()
    config["segment"] |= {"method": "watershed", "decoder": "auto"}
    config["evaluate"] |= {"volumes": [], "threshold_volumes": ["train"]}
    stores = {one.store: one for one in store_plans(load_config(config), "train", LAYOUT, stored=1)}
    voxels = int(np.prod(LAYOUT.shape))
    assert stores["candidate-fragments"].bytes == pytest.approx(3 * IDS * voxels)
    assert (stores["candidate-fragments"].files, stores["candidate-tables"].files) == (8 + 2, 8 * 6)


def test_memory_follows_the_block_and_not_the_volume() -> None:
    deep = VolumeLayout(**{**vars(LAYOUT), "shape": (300, 400, 500)})
    larger = VolumeLayout(**{**vars(deep), "block": (4, 64, 64)})
    small, same, more = (planned_volume(layout).job_memory.process for layout in (LAYOUT, deep, larger))
    assert small == same < more


def test_training_is_three_forward_passes_a_tile() -> None:
    config = configuration()
    assert training_flops(config, 2) == 3 * 10 * 2 * forward_cost(config.model, 2, (1, 20, 20)).flops


def planned(layout: VolumeLayout = LAYOUT, **plan: object) -> tuple[Config, RunPlan]:
    """The run of one volume on two GPUs of 1 GFLOP/s."""
    config = configuration(volumes=["train"]).model_copy(update={"plan": PlanConfig(**plan)})
    resources = ComputeResources(8, 2, "cuda", 4)
    planner = Planner(config, ["membrane", "interior"], {"train": layout}, resources)
    volumes = [planner.volume("train")]
    speeds = planner.given_speeds(volumes, 1e9)
    rules, stores = planner.rules(volumes, speeds), store_plans(config, "train", layout, 1)
    return config, RunPlan(volumes, rules, stores, planner.training_flops, resources, speeds, 0.0)


def test_time_is_arithmetic_over_the_rate_and_what_the_table_of_costs_says() -> None:
    _, plan = planned()
    rules, start = {one.rule: one for one in plan.rules}, {name: rule.cost.start for name, rule in RULES.items()}
    assert rules["predict"].seconds == pytest.approx(
        plan.volumes[0].flops / 1e9 + RULES["predict"].cost.start, rel=0.01
    )
    assert rules["train"].seconds == pytest.approx(plan.training_flops / 1e9 + start["train"], rel=0.01)
    assert (rules["predict"].at_once, rules["ingest"].at_once, rules["merge"].at_once) == (2, 4, 8)
    assert plan.gpu_hours == pytest.approx((rules["predict"].seconds + rules["train"].seconds) / 3600)
    assert plan.wall_seconds > sum(one.seconds / one.at_once for one in plan.rules)


def test_the_price_is_of_hours_on_gpus_and_of_cores_without() -> None:
    config, plan = planned(price_per_gpu_hour=2, price_per_core_hour=0.1)
    assert price_of(plan, config) == pytest.approx(2 * plan.gpu_hours + 0.1 * plan.core_hours)
    assert price_of(plan, configuration()) is None


def test_the_table_is_for_people() -> None:
    text = as_text(planned()[1])
    for words in ("3 x 40 x 50", "28 x 28 in batches of 1", "with 2 GPU(s) and 8 cores", "0.001 TFLOP/s", "weights"):
        assert words in text


def test_limits_are_named_with_what_to_set() -> None:
    _, plan = planned()
    assert warnings_of(plan.rules, plan.stores, Free(disk=1e12, files=inf, memory=1e12)) == []
    disk, files, *memory = warnings_of(plan.rules, plan.stores, Free(disk=1e3, files=10, memory=1e8))
    needed = sum(one.bytes for one in plan.stores) / 1e9
    assert disk == f"disk: about {needed:.3g} GB are needed and 1e-06 GB are free where results lie"
    assert "make storage.block larger" in files
    assert any("job of predict" in one for one in memory)


def test_blocks_that_a_watershed_in_3_d_reads_dearly_are_named_with_better_ones() -> None:
    deep = VolumeLayout((500, 4096, 4096), "uint8", (8, 8, 8), (0, 0, 0), (16, 128, 128), (16, 1024, 1024), None, False)
    values = configuration().model_dump(mode="json")

    def said(connectivity: str, block: tuple[int, ...]) -> list[str]:
        segment = {"method": "watershed", "connectivity": connectivity}
        return advice_on_blocks(
            load_config({**values, "segment": segment}), [VolumeLayout(**{**vars(deep), "block": block})]
        )

    [advice] = said("volume", (16, 1024, 1024))
    # (16 + 34) / 16 * (1058 / 1024)^2, (64 + 34) / 64 * (546 / 512)^2, and 1.5 in blocks of 256 x 256 x 256
    assert "17 x 17 x 17 voxels" in advice
    assert "3.3 times the volume; with storage.block: [64, 512, 512] 1.7 times" in advice
    assert said("volume", (64, 512, 512)) == said("section", (16, 1024, 1024)) == []
    assert (
        advice_on_blocks(configuration(), [deep])
        == advice_on_blocks(load_config({**values, "segment": {"method": "watershed"}}), [])
        == []
    )


def test_a_petavoxel_is_merged_part_by_part_and_refused_in_one_solve() -> None:
    shape = (33_333, 125_000, 125_000)
    huge = VolumeLayout(**{**vars(LAYOUT), "shape": shape, "block": (64, 2048, 2048), "chunk": (64, 64, 64)})
    assert errors_of(configuration(volumes=["train"]), {"train": huge}) == []
    values = configuration(volumes=["train"]).model_dump(exclude_unset=True)
    at_once = load_config({**values, "segment": {"merge_voxels": 10**16}})
    [problem] = errors_of(at_once, {"train": huge})
    fragments = prod(shape) / VOXELS_PER_FRAGMENT["components"]
    assert f"{fragments:.2g} fragments in a part" in problem
    assert "segment.merge_voxels" in problem
    assert errors_of(at_once, {"train": LAYOUT}) == [], "a part is no larger than its volume"


def test_times_are_rounded_up() -> None:
    assert [hours(seconds) for seconds in (0.1, 61, 5400)] == ["1 s", "2 min", "1.5 h"]
