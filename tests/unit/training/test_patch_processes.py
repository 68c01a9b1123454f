"""Patches that processes prepare are those that threads prepare."""

import pickle

import numpy as np
import pytest
import torch

from unet.config.train import AugmentConfig, TrainConfig
from unet.geometry.box import Box
from unet.storage.ngff import ImageSpec
from unet.storage.zarr_store import create_image
from unet.training import patch_processes
from unet.training.distributed import Rank
from unet.training.labelled_volume import LabelledVolume
from unet.training.patch_processes import batches_of_processes, prepared_batches, processes_fit
from unet.training.patches import CachedVolume, PatchSampler
from unet.volumes.intensity import Normalisation

SHAPE, CHUNK = (3, 64, 64), (1, 32, 32)


def stored(path, values) -> CachedVolume:
    """Another process can open a store; it could not see an array of this one."""
    spec = ImageSpec(path.name, SHAPE, values.dtype.name, CHUNK, SHAPE, (50, 4, 4), pyramid=False)
    image = create_image(path, spec)
    image.write_block(Box((0, 0, 0), SHAPE), values)
    return CachedVolume(image, CHUNK, megabytes=1)


@pytest.fixture
def sampler(tmp_path):
    raw = np.random.default_rng(0).integers(0, 250, SHAPE, np.uint8)
    parts = (raw, raw % 2, raw.astype(np.float32))
    raw, targets, weights = (stored(tmp_path / f"{name}.zarr", part) for name, part in zip("rtw", parts, strict=True))
    volume = LabelledVolume(raw, targets, weights, Normalisation((100.0,), (50.0,)))
    return PatchSampler([volume], (1, 44, 44), (1, 4, 4), AugmentConfig(), batch=4, seed=3)


def test_processes_give_the_batches_of_threads_in_order(sampler):
    expected = list(sampler.batches(2, 7, threads=1, first=1, count=2))
    found = list(batches_of_processes(sampler, 2, 7, 2, first=1, count=2))
    assert len(found) == len(expected) == 5
    for one, other in zip(expected, found, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, np.asarray(b))


def test_an_error_in_a_process_reaches_the_trainer(sampler):
    sampler.volumes = []
    with pytest.raises(IndexError, match="list index out of range"):
        next(batches_of_processes(sampler, 0, 4, 1))


def test_shared_memory_that_is_too_small_is_told(monkeypatch, caplog, tmp_path):
    monkeypatch.setattr(patch_processes, "SHARED_MEMORY", tmp_path)
    with caplog.at_level("INFO"):
        assert not processes_fit(2**50, 4)
    assert "patches are prepared by threads, since" in caplog.text
    assert processes_fit(1000, 4)
    monkeypatch.setattr(patch_processes, "SHARED_MEMORY", tmp_path / "none")
    assert not processes_fit(1, 1)


def test_a_volume_is_sent_to_a_process_without_its_cache(sampler):
    cached, box = sampler.volumes[0].raw, Box((0, 3, 5), (2, 20, 40))
    values = cached.read_mirrored(box)
    sent = pickle.dumps(cached)
    assert len(sent) < 5000
    np.testing.assert_array_equal(pickle.loads(sent).read_mirrored(box), values)


def test_processes_divide_the_memory_of_a_cache(sampler):
    cached = sampler.volumes[0].raw
    assert cached._cube.cache_info().maxsize == 1024
    cached.limit(1 / 8)
    assert cached._cube.cache_info().maxsize == 128


@pytest.mark.parametrize(
    ("device", "steps", "threads", "by"),
    [
        ("cpu", 900, 4, "threads"),
        ("cuda", 900, 4, "processes"),
        ("cuda", 20, 4, "threads"),
        ("cuda", 900, 1, "threads"),
    ],
)
def test_processes_prepare_the_patches_of_a_long_training_on_a_gpu(monkeypatch, sampler, device, steps, threads, by):
    asked = {}
    monkeypatch.setattr(sampler, "batches", lambda *_, **keys: asked.update(by="threads", **keys))
    monkeypatch.setattr(
        patch_processes, "batches_of_processes", lambda *given: asked.update(by="processes", given=given[1:])
    )
    config = TrainConfig(steps=steps, batch=2)
    prepared_batches(sampler, 7, config, Rank(1, 2), threads, torch.device(device))
    assert asked["by"] == by
    if by == "processes":
        assert asked["given"] == (8, 900, 4, 2, 2)  # the first one is prepared to learn its size
    else:
        assert asked == {"by": "threads", "threads": threads, "first": 2, "count": 2}


@pytest.mark.parametrize("fits", [True, False])
def test_the_batch_that_tells_its_size_is_the_first_of_the_training(monkeypatch, sampler, fits):
    prepared, prepare = [], sampler.batch
    monkeypatch.setattr(sampler, "batch", lambda step, *share: (prepared.append(step), prepare(step, *share))[1])
    monkeypatch.setattr(patch_processes, "FROM_BATCHES", 2)
    monkeypatch.setattr(patch_processes, "processes_fit", lambda *_: fits)
    by_threads = lambda _, start, stop, __, first, count: sampler.batches(start, stop, 1, first, count)  # noqa: E731
    monkeypatch.setattr(patch_processes, "batches_of_processes", by_threads)
    config = TrainConfig(steps=5, batch=2)
    found = list(prepared_batches(sampler, 2, config, Rank(0, 1), 2, torch.device("cuda")))
    assert sorted(prepared) == [2, 3, 4]
    for batch, step in zip(found, (2, 3, 4), strict=True):
        np.testing.assert_array_equal(batch.raw, prepare(step, 0, 2).raw)
