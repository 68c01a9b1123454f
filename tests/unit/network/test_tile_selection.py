"""The choice of a tile, against all tiles there are."""

from pathlib import Path

import pytest
import torch

from unet.config.model import ModelConfig
from unet.config.predict import PredictConfig
from unet.geometry.tiling import TileSizeError, tile_candidates, tile_count, tile_geometry
from unet.network.complexity import forward_cost
from unet.network.tile_selection import (
    ALLOCATOR_OVERHEAD,
    PredictionTask,
    cached_selection,
    concurrent_tiles,
    job_memory,
    memory_limit,
    read_selection,
    required_bytes,
    select_tile,
)
from unet.volumes.layout import VolumeLayout

CPU, GPU = torch.device("cpu"), torch.device("cuda")
LAYOUT = VolumeLayout((3, 150, 180), "uint8", (50, 4, 4), (0, 0, 0), (1, 16, 16), (2, 64, 64), None, False)
MODEL = ModelConfig(depth=3, base_channels=4, dropout=0)


def task(layout: VolumeLayout = LAYOUT, **predict: object) -> PredictionTask:
    return PredictionTask(MODEL, 2, 1, layout, PredictConfig(**predict))


def arithmetic(of: PredictionTask, tile: tuple[int, ...]) -> int:
    return tile_count(of.layout.grid, tile_geometry(MODEL, tile)) * forward_cost(MODEL, 2, tile).flops


def test_the_tile_is_the_one_with_the_least_arithmetic_of_those_that_fit() -> None:
    all_tiles = tile_candidates(MODEL, LAYOUT.grid)
    for limit in sorted({required_bytes(task(), tile, 1, "cpu", 2) for tile in all_tiles}):
        fitting = [tile for tile in all_tiles if required_bytes(task(), tile, 1, "cpu", 2) <= limit]
        chosen = select_tile(task(), CPU, threads=2, limit=limit)
        assert arithmetic(task(), chosen.tile) == min(arithmetic(task(), tile) for tile in fitting)
        assert chosen.batch == 1
        assert "times the arithmetic of a network on whole images" in chosen.why


def test_too_little_memory_is_refused_and_a_configured_tile_is_taken_as_it_is() -> None:
    with pytest.raises(TileSizeError, match=r"needs 0\.45 GB with the smallest tile, more than the 0\.001 GB"):
        select_tile(task(), CPU, threads=2, limit=1e6)
    chosen = select_tile(task(tile=60, batch=3), CPU, threads=2, limit=1e6)
    assert (chosen.tile, chosen.batch) == ((1, 60, 60), 3)
    assert "as configured" in chosen.why


def test_a_batch_fills_a_gpu_as_far_as_its_memory_goes() -> None:
    assert select_tile(task(tile=172), CPU, threads=4, limit=1e12).batch == 1
    assert select_tile(task(tile=172), GPU, threads=4, limit=1e12).batch == 36  # x 172 x 172 voxels are 2^20
    one, two = (required_bytes(task(), (1, 172, 172), n, "cuda", 1) for n in (1, 2))
    assert select_tile(task(tile=172), GPU, threads=4, limit=(one + 9 * two) / 10).batch == 1
    assert select_tile(task(tile=172), GPU, threads=4, limit=two).batch == 2


def test_what_was_chosen_first_is_kept_whatever_is_free_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_selection(tmp_path, task()) is None
    free = required_bytes(task(), (1, 60, 60), 1, "cpu", 2)
    monkeypatch.setattr("unet.network.tile_selection.memory_limit", lambda device, threads: free)
    small = cached_selection(tmp_path, task(), CPU, threads=2)
    free = 1e12
    assert cached_selection(tmp_path, task(), CPU, threads=2) == small == read_selection(tmp_path, task())
    assert cached_selection(tmp_path, task(test_time_augmentation="flips"), CPU, threads=2).tile != small.tile
    other = VolumeLayout(**{**vars(LAYOUT), "block": (2, 16, 16)})
    assert read_selection(tmp_path, task(other)) is None


def test_fewer_threads_compute_where_not_all_of_their_tiles_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = select_tile(task(tile=172), CPU, threads=4, limit=1e12)
    for threads in (1, 2, 3, 4):
        free = required_bytes(task(), chosen.tile, 1, "cpu", threads)
        monkeypatch.setattr("unet.network.tile_selection.memory_limit", lambda device, n, free=free: free)
        assert concurrent_tiles(task(), chosen, CPU, 4) == threads
    monkeypatch.setattr("unet.network.tile_selection.memory_limit", lambda device, n: 0)
    assert concurrent_tiles(task(), chosen, CPU, 4) == 1
    assert concurrent_tiles(task(), chosen, GPU, 4) == 1


def test_a_job_of_some_threads_may_take_its_share_of_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unet.network.tile_selection.usable_cores", lambda: 8)
    monkeypatch.setattr("unet.network.tile_selection.free_bytes", lambda device: 1000)
    assert [memory_limit(CPU, threads) for threads in (2, 8, 16)] == [200, 800, 800]
    assert memory_limit(GPU, 2) == 800


def test_memory_of_a_job_is_shared_out_between_process_and_gpu() -> None:
    tile = (1, 172, 172)
    with_cpu, with_gpu = (job_memory(task(), tile, 1, kind, 1) for kind in ("cpu", "cuda"))
    assert with_cpu.gpu == 0 < with_gpu.gpu
    assert job_memory(task(), tile, 1, "cpu", 2).process - with_cpu.process == pytest.approx(
        ALLOCATOR_OVERHEAD["cpu"] * forward_cost(MODEL, 2, tile).bytes
    )
    assert job_memory(task(max_blocks_in_flight=9), tile, 1, "cpu", 1).process > with_cpu.process


def test_memory_is_fragmented_once_more_blocks_than_are_in_flight_have_been_through() -> None:
    tile, in_flight = (1, 172, 172), task().predict.max_blocks_in_flight
    one, few, many, more = (
        job_memory(task(), tile, 1, "cpu", 1, blocks).process for blocks in (1, in_flight, in_flight + 1, 99)
    )
    assert one < few < many == more == job_memory(task(), tile, 1, "cpu", 1).process
