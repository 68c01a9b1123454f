"""Patches: the right voxels, a function of (seed, step, index) alone, volumes read in bounded windows."""

from dataclasses import dataclass, field

import numpy as np
import pytest

from tests.unit.training.array_volume import values_of
from unet.config.train import AugmentConfig
from unet.geometry.box import Box
from unet.geometry.mirroring import mirrored_indices
from unet.training.labelled_volume import LabelledVolume
from unet.training.patches import CachedVolume, PatchSampler, count_labelled
from unet.volumes.intensity import Normalisation

INPUT, OUTPUT = (1, 44, 44), (1, 4, 4)
FLIPS = AugmentConfig(rotation="right", elastic_px=0, brightness=0, contrast=0, noise=0)
DEFECTS = FLIPS.model_copy(update={"misalignment": 0.5, "misalignment_px": 5.0})


@dataclass
class ArrayVolume:
    """A stand-in for `unet.storage.zarr_store.Image` that remembers what was read."""

    values: np.ndarray
    boxes: list[Box] = field(default_factory=list)
    mirrored_boxes: list[Box] = field(default_factory=list)

    @property
    def shape(self):
        return self.values.shape

    @property
    def dtype(self):
        return self.values.dtype

    def read(self, box: Box) -> np.ndarray:
        assert box.clipped(self.shape) == box
        self.boxes.append(box)
        return self.values[box.slices]

    def read_mirrored(self, box: Box) -> np.ndarray:
        self.mirrored_boxes.append(box)
        indices = [mirrored_indices(lo, hi, n) for lo, hi, n in zip(box.start, box.stop, self.shape, strict=True)]
        return self.values[np.ix_(*indices)]


PLAIN = Normalisation((0.0,), (1.0,))


def volume(shape=(3, 60, 70), seed=0, mean=100.0, std=50.0) -> LabelledVolume:
    """Targets and weights are functions of the grey value, so that a misplaced pixel shows."""
    raw = np.random.default_rng(seed).integers(0, 250, shape, np.uint8)
    return LabelledVolume(
        ArrayVolume(raw),
        ArrayVolume((raw % 2).astype(np.uint8)),
        ArrayVolume((raw.astype(np.float32) + 1) / 8),
        Normalisation((mean,), (std,)),
    )


def test_all_channels_move_together_and_each_has_its_statistics():
    one = volume()
    both = np.stack([values_of(one.raw), 2 * values_of(one.raw).astype(np.uint16)])

    class TwoChannels(ArrayVolume):
        def read_mirrored(self, box: Box) -> np.ndarray:
            return np.stack([ArrayVolume(channel).read_mirrored(box) for channel in both])

    raw = TwoChannels(values_of(one.raw))
    pair = LabelledVolume(raw, one.targets, one.weights, Normalisation((100.0, 200.0), (50.0, 100.0)))
    augment = AugmentConfig(noise=0)
    alone, together = (PatchSampler([v], INPUT, OUTPUT, augment).sample(3) for v in (one, pair))
    assert together.raw.shape == (2, *INPUT[1:])
    np.testing.assert_array_equal(together.raw[0], alone.raw[0])
    np.testing.assert_allclose(together.raw[1], alone.raw[0], atol=1e-4)
    np.testing.assert_array_equal(together.target, alone.target)


def middle(raw: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return raw[tuple(slice((n - m) // 2, (n + m) // 2) for n, m in zip(raw.shape, shape, strict=True))]


@pytest.mark.parametrize("augment", [None, FLIPS], ids=["none", "flips"])
def test_raw_target_and_weight_belong_to_the_same_voxels(augment):
    sampler = PatchSampler([volume()], INPUT, OUTPUT, augment)
    for step in range(20):
        raw, target, weight = sampler.sample(step)
        assert (raw.shape, raw.dtype) == ((1, 44, 44), np.float32)
        assert (target.shape, target.dtype) == ((4, 4), np.uint8)
        assert (weight.shape, weight.dtype) == ((4, 4), np.float32)
        grey = np.rint(middle(raw[0], (4, 4)) * 50 + 100)
        np.testing.assert_array_equal(target, grey % 2)
        np.testing.assert_array_equal(weight, (grey + 1) / 8)


def test_3d_patches_keep_their_sections():
    sampler = PatchSampler([volume((9, 40, 40))], (9, 16, 16), (5, 4, 4), FLIPS, dimensions=3)
    raw, target, weight = sampler.sample(0)
    assert (raw.shape, target.shape, weight.shape) == ((1, 9, 16, 16), (5, 4, 4), (5, 4, 4))
    grey = np.rint(middle(raw[0], (5, 4, 4)) * 50 + 100)
    np.testing.assert_array_equal(target, grey % 2)


def test_misaligned_sections_keep_raw_target_and_weight_together():
    whole = volume((9, 60, 60))
    sampler = PatchSampler([whole], (9, 16, 16), (5, 4, 4), DEFECTS, dimensions=3)
    for step in range(10):
        raw, target, weight = sampler.sample(step)
        grey = np.rint(middle(raw[0], (5, 4, 4)) * 50 + 100)
        np.testing.assert_array_equal(target, grey % 2)
        np.testing.assert_array_equal(weight, (grey + 1) / 8)


def test_misaligned_sections_are_read_beside_each_other():
    """Grey values are the column, so that a section tells where it was read."""
    columns = np.broadcast_to(np.arange(400, dtype=np.float32), (9, 40, 400))
    labels = ArrayVolume(np.ones((9, 40, 400), np.float32))
    columnar = LabelledVolume(ArrayVolume(columns), labels, labels, PLAIN)
    only = AugmentConfig(flips=False, rotation="none", elastic_px=0, brightness=0, contrast=0, noise=0)
    config = only.model_copy(update={"misalignment": 1.0, "misalignment_px": 5.0})
    sampler = PatchSampler([columnar], (5, 8, 8), (3, 4, 4), config, dimensions=3)
    raw = next(r for r in (sampler.sample(k).raw[0] for k in range(50)) if 50 < r.mean() < 350)
    assert (np.diff(raw, axis=2) == 1).all()
    assert len(np.unique(raw[:, 0, 0])) > 1


def test_a_missing_section_keeps_its_target_and_weight():
    missing = FLIPS.model_copy(update={"missing_section": 1.0})
    raw, target, weight = PatchSampler([volume((9, 60, 60))], (9, 16, 16), (5, 4, 4), missing, 3).sample(0)
    assert all(len(np.unique(section)) == 1 for section in raw[0])
    assert len(np.unique(raw)) == 9
    assert len(np.unique(target)) == 2
    assert (weight > 0).all()


def test_the_stream_of_random_patches_is_the_one_of_earlier_versions():
    """Sums of patches as version 0.1.0 drew them, so that trainings of it can be repeated."""
    augment = AugmentConfig(rotation="right", elastic_probability=0)
    cases = [
        (PatchSampler([volume((9, 60, 70))], (9, 32, 32), (5, 16, 16), augment, dimensions=3, seed=4), STREAM_3D),
        (PatchSampler([volume()], INPUT, (1, 20, 20), AugmentConfig(), seed=3), STREAM_2D),
    ]
    for sampler, expected in cases:
        for step, (labelled, mean, std) in enumerate(expected):
            raw, target, _ = sampler.sample(step)
            assert int(target.sum()) == labelled
            assert (raw.mean(), raw.std()) == pytest.approx((mean, std), abs=1e-3)


STREAM_3D = [(642, 0.3672, 1.1548), (626, 0.6676, 1.5882), (621, 0.3765, 1.2861)]
STREAM_2D = [(218, 0.3554, 1.3739), (197, 0.6002, 1.0858), (188, 0.874, 1.2116)]


def test_a_patch_depends_on_seed_step_and_index_alone():
    first, again = (PatchSampler([volume()], INPUT, OUTPUT, AugmentConfig(), seed=7) for _ in range(2))
    again.sample(0)
    for a, b in zip(first.sample(5, 1), again.sample(5, 1), strict=True):
        np.testing.assert_array_equal(a, b)
    others = [first.sample(6, 1), first.sample(5, 0), PatchSampler([volume()], INPUT, OUTPUT, None).sample(5, 1)]
    assert all(not np.array_equal(first.sample(5, 1).raw, other.raw) for other in others)


def test_batches_come_in_order_whatever_the_threads_and_the_first_step():
    sampler = PatchSampler([volume()], INPUT, OUTPUT, AugmentConfig(), batch=2)
    expected = [sampler.batch(step) for step in range(6)]
    for threads, start in ((1, 0), (3, 0), (2, 4)):
        batches = list(sampler.batches(start, 6, threads=threads))
        assert len(batches) == 6 - start
        for got, wanted in zip(batches, expected[start:], strict=True):
            assert got.raw.shape == (2, 1, 44, 44)
            for a, b in zip(got, wanted, strict=True):
                np.testing.assert_array_equal(a, b)


def test_3d_patches_with_every_defect_are_the_same_for_any_number_of_threads():
    augment = AugmentConfig(contrast_shift=0.3, missing_section=0.2, misalignment=0.3)
    sampler = PatchSampler([volume((9, 60, 60))], (5, 16, 16), (3, 4, 4), augment, dimensions=3, batch=2)
    one, three = (list(sampler.batches(0, 6, threads=threads)) for threads in (1, 3))
    for a, b in zip(one, three, strict=True):
        assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_processes_that_share_a_step_have_the_batch_of_one():
    whole = PatchSampler([volume()], INPUT, OUTPUT, AugmentConfig(), batch=6)
    shared = PatchSampler([volume()], INPUT, OUTPUT, AugmentConfig(), batch=2)
    parts = [list(shared.batches(3, 5, first=rank * 2, count=2)) for rank in range(3)]
    for step, of_ranks in zip((3, 4), zip(*parts, strict=True), strict=True):
        for field_of_one, fields in zip(whole.batch(step), zip(*of_ranks, strict=True), strict=True):
            np.testing.assert_array_equal(np.concatenate(fields), field_of_one)


@pytest.mark.parametrize("threads", [1, 3])
def test_each_thread_prepares_two_batches_in_advance(threads):
    sampler = PatchSampler([volume()], INPUT, OUTPUT, None)
    asked: list[int] = []
    sampler.batch = lambda step, *_: asked.append(step)
    batches = sampler.batches(0, 100, threads=threads)
    next(batches)
    batches.close()
    assert max(asked) <= 2 * threads


def test_an_error_while_reading_reaches_the_trainer():
    broken = volume()
    broken.raw.read_mirrored = None
    with pytest.raises(TypeError):
        next(PatchSampler([broken], INPUT, OUTPUT, None).batches(0, 1))


def test_every_voxel_is_seen_about_equally_often_faces_included():
    values = np.arange(1, 21).reshape(1, 1, 20)
    ones = ArrayVolume(np.ones((1, 1, 20), np.float32))
    sampler = PatchSampler([LabelledVolume(ArrayVolume(values), ones, ones, PLAIN)], (1, 1, 7), (1, 1, 7), None)
    seen = np.concatenate([sampler.sample(step).raw.ravel() for step in range(3000)]).astype(int)
    counts = np.bincount(seen, minlength=21)[1:]
    assert counts[1:-1].min() > 0.8 * counts.mean()
    assert counts[1:-1].max() < 1.2 * counts.mean()


def test_patches_hold_labelled_voxels_however_few_there_are():
    sparse = volume((50, 300, 300))
    values_of(sparse.weights)[:] = 0
    values_of(sparse.weights)[33, 200:240, 100:140] = 1
    sampler = PatchSampler([sparse], INPUT, (1, 24, 24), None)
    assert all(sampler.sample(step).weight.any() for step in range(30))


def test_labelled_voxels_are_counted_cell_by_cell():
    weights = np.random.default_rng(0).choice([0, 1], (2, 70, 130), p=[0.9, 0.1]).astype(np.float32)
    counts = count_labelled(ArrayVolume(weights))
    assert counts.shape == (2, 2, 3)
    assert counts[1, 1, 2] == weights[1, 64:, 128:].sum()
    assert counts[0, 0, 1] == weights[0, :64, 64:128].sum()
    assert counts.sum() == weights.sum()


def test_labelled_voxels_are_counted_in_one_row_of_cells_at_a_time():
    weights = ArrayVolume(np.ones((3, 70, 300), np.float32))
    count_labelled(weights)
    assert {box.shape for box in weights.mirrored_boxes} == {(1, 64, 300), (1, 6, 300)}
    assert len(weights.mirrored_boxes) == 3 * 2


def test_equal_volume_weights_are_none():
    volumes = [volume(seed=1), volume(seed=2)]
    none, equal = (PatchSampler(volumes, INPUT, OUTPUT, None, volume_weights=w) for w in (None, [2.0, 2.0]))
    for step in range(10):
        np.testing.assert_array_equal(none.sample(step).raw, equal.sample(step).raw)


def test_unlabelled_cells_are_not_drawn_however_volumes_are_weighted():
    sparse = volume((2, 200, 200))
    values_of(sparse.weights)[:] = 0
    values_of(sparse.weights)[1, 70:90, 70:90] = 1
    empty = volume((2, 200, 200))
    values_of(empty.weights)[:] = 0
    sampler = PatchSampler([empty, sparse, empty], INPUT, (1, 24, 24), None, volume_weights=[9.0, 0.1, 9.0])
    assert all(sampler.sample(step).weight.any() for step in range(20))


@pytest.mark.parametrize("weights", [[1.0], [1.0, 0.0]])
def test_volume_weights_that_do_not_fit_are_refused(weights):
    with pytest.raises(ValueError, match=r"volume_weights .* for 2 volume"):
        PatchSampler([volume(), volume()], INPUT, OUTPUT, None, volume_weights=weights)


def share_of_first(sampler: PatchSampler) -> float:
    """Return how often patches are of the first of two volumes, whose grey values are above 0."""
    return float(np.mean([sampler.sample(step).raw.mean() > 0 for step in range(400)]))


def test_volumes_are_drawn_by_their_labelled_voxels():
    first, second = volume((3, 60, 70), mean=0.0, std=1.0), volume((1, 60, 70), mean=1000.0, std=1.0)
    assert share_of_first(PatchSampler([first, second], INPUT, OUTPUT, None)) == pytest.approx(0.75, abs=0.08)


def test_a_volume_is_drawn_more_often_by_its_weight():
    """The first has a quarter of the labelled voxels; three times as often makes it a half."""
    first, second = volume((1, 60, 70), mean=0.0, std=1.0), volume((3, 60, 70), mean=1000.0, std=1.0)
    weighted = PatchSampler([first, second], INPUT, OUTPUT, None, volume_weights=[1.5, 0.5])
    assert share_of_first(weighted) == pytest.approx(0.5, abs=0.08)


def test_volumes_without_labels_and_of_different_shapes_are_refused():
    unlabelled = volume()
    values_of(unlabelled.weights)[:] = 0
    with pytest.raises(ValueError, match="nothing to learn from"):
        PatchSampler([unlabelled], INPUT, OUTPUT, None)
    with pytest.raises(ValueError, match=r"\(3, 60, 70\).*\(3, 60, 71\)"):
        LabelledVolume(volume().raw, volume((3, 60, 71)).targets, volume().weights, PLAIN)


def test_the_cache_returns_what_the_volume_holds_and_reads_each_cube_once():
    plain = ArrayVolume(np.random.default_rng(0).integers(0, 99, (5, 30, 41)))
    cached = CachedVolume(plain, cube=(2, 16, 16))
    rng = np.random.default_rng(1)
    for _ in range(100):
        start = tuple(int(rng.integers(-n, n)) for n in plain.shape)
        box = Box(start, tuple(lo + int(rng.integers(1, 50)) for lo in start))
        np.testing.assert_array_equal(cached.read_mirrored(box), plain.read_mirrored(box))
    assert len(plain.boxes) == len(set(plain.boxes)) == 3 * 2 * 3


def test_the_cache_is_bounded_and_never_reads_a_whole_volume():
    plain = ArrayVolume(np.zeros((8, 256, 256), np.float32))
    cached = CachedVolume(plain, cube=(4, 64, 64), megabytes=2 * 4 * 64 * 64 * 4 / 2**20)
    cached.read_mirrored(Box((0, 0, 0), (1, 10, 10)))
    assert [box.shape for box in plain.boxes] == [(4, 64, 64)]
    cached.read_mirrored(Box((0, 0, 0), (1, 256, 256)))
    assert cached._cube.cache_info().currsize == 2
