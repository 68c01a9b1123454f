"""Tile invariance: whatever the cut, the result is that of the network on the whole mirrored volume."""

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from itertools import product

import numpy as np
import pytest
import torch
from distributed import Client
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from unet.config.model import ModelConfig
from unet.geometry.block_ranges import block_range_names, boxes_of_range
from unet.geometry.box import Box
from unet.geometry.grid import Grid
from unet.geometry.tiling import TileGeometry, tile_geometry, valid_input_sizes
from unet.jobs.dask_clients import local_client
from unet.jobs.pipeline import ReadInferWrite, run_pipeline
from unet.network.model import build_model
from unet.network.predictor import Predictor, quantised
from unet.network.symmetries import TestTimeAugmentation
from unet.volumes.intensity import Normalisation

MEAN, STD = 120.0, 40.0
GREY = Normalisation((MEAN,), (STD,))
ANISOTROPIC = [(1, 2, 2), (2, 2, 2)]
NETWORKS = {
    "paper": ModelConfig(depth=3, base_channels=2),
    "batch norm": ModelConfig(depth=2, base_channels=3, normalisation="batch", skip="add"),
    "bilinear": ModelConfig(depth=3, base_channels=2, upsampling="bilinear"),
    "padded": ModelConfig(depth=3, base_channels=2, convolution="same"),
    "padded bilinear": ModelConfig(depth=2, base_channels=2, convolution="same", upsampling="bilinear"),
    "fcn8s": ModelConfig(depth=3, base_channels=2, architecture="fcn8s"),
    "padded fcn8s": ModelConfig(depth=3, base_channels=2, architecture="fcn8s", convolution="same"),
    "3-D": ModelConfig(dimensions=3, depth=2, base_channels=2),
    "3-D anisotropic": ModelConfig(dimensions=3, depth=3, base_channels=2, pooling=ANISOTROPIC),
    "3-D of thick sections": ModelConfig(dimensions=3, depth=3, base_channels=2, pooling="auto").for_voxels((30, 8, 8)),
    "residual": ModelConfig(depth=3, base_channels=2, block="residual"),
    "padded residual 3-D": ModelConfig(dimensions=3, depth=2, base_channels=2, block="residual", convolution="same"),
    "context": ModelConfig(depth=2, base_channels=2, context_sections=2),
}


class ArrayImage:
    """A volume in memory; numpy does the mirroring."""

    def __init__(self, array: NDArray) -> None:
        self.array = array

    def read_mirrored(self, window: Box) -> NDArray:
        before = [max(0, -lo) for lo in window.start]
        after = [max(0, hi - n) for hi, n in zip(window.stop, self.array.shape, strict=True)]
        padded = np.pad(self.array, list(zip(before, after, strict=True)), mode="reflect")
        return padded[window.shifted(tuple(before)).slices]


class ChannelImage(ArrayImage):
    """A volume of several channels `(c, z, y, x)` in memory."""

    def read_mirrored(self, window: Box) -> NDArray:
        return np.stack([ArrayImage(channel).read_mirrored(window) for channel in self.array])


LOGITS = 2.0
"""Standard deviation of the logits, about that of trained networks."""


@cache
def network(name: str) -> nn.Module:
    torch.manual_seed(7)
    model = build_model(NETWORKS[name], 1, 2)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-1, 1)
            module.running_var.uniform_(0.5, 2)
    model.eval()
    if NETWORKS[name].architecture == "unet":
        model.classifier.weight.data *= LOGITS / spread(model, NETWORKS[name])
    return model


def spread(model: nn.Module, config: ModelConfig) -> Tensor:
    """Standard deviation of the logits: an untrained network may have a hundred, and its rounding shows."""
    size = [valid_input_sizes(config, 80, axis)[-1] for axis in range(3 - config.dimensions, 3)]
    with torch.no_grad():
        return model(torch.randn(1, config.sections, *size)).std()


def volume(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    return np.random.default_rng(sum(shape)).integers(0, 256, shape, dtype=np.uint8)


def predictor(
    name: str, tile: int | tuple[int, ...], average: TestTimeAugmentation = "none", batch: int = 1
) -> Predictor:
    return Predictor(
        network(name), tile_geometry(NETWORKS[name], tile), GREY, test_time_augmentation=average, batch=batch
    )


def predicted(p: Predictor, image: NDArray, block: tuple[int, ...]) -> NDArray[np.float32]:
    """The whole volume, block by block."""
    result = np.full((2, *image.shape), np.nan, np.float32)
    for box in Grid(image.shape, block).boxes():
        result[:, *box.slices] = p.predict_box(ArrayImage(image), box)
    return result


@pytest.mark.parametrize("average", ["none", "symmetries", "rotations"])
def test_a_channel_of_no_weight_changes_nothing_and_one_of_weight_does(average: TestTimeAugmentation) -> None:
    torch.manual_seed(7)
    config, image = NETWORKS["paper"], volume((2, 50, 61))
    alone, both = build_model(config, 1, 2), build_model(config, 2, 2)
    shared = {key: value for key, value in alone.state_dict().items() if value.shape == both.state_dict()[key].shape}
    both.load_state_dict(shared, strict=False)
    first, of_alone = both.encoder.levels[0][0].weight, alone.encoder.levels[0][0].weight
    first.data = torch.cat([of_alone.data, torch.zeros_like(of_alone.data)], dim=1)
    other = np.random.default_rng(1).integers(0, 256, image.shape, dtype=np.uint8)
    geometry, box = tile_geometry(config, 60), Box((0, 3, 5), (2, 40, 61))
    pair, grey = ChannelImage(np.stack([image, other])), Normalisation((MEAN, 100.0), (STD, 50.0))

    expected = Predictor(alone, geometry, GREY, average).predict_box(ArrayImage(image), box)
    np.testing.assert_allclose(Predictor(both, geometry, grey, average).predict_box(pair, box), expected, atol=1e-5)
    first.data[:, 1] = first.data[:, 0]
    changed = Predictor(both, geometry, grey, average).predict_box(pair, box)
    assert np.abs(changed - expected).max() > 1e-3
    sections = [Box((z, 0, 0), (z + 1, 50, 61)) for z in range(2)]
    whole = np.concatenate([Predictor(both, geometry, grey, average).predict_box(pair, b) for b in sections], axis=1)
    np.testing.assert_array_equal(whole[:, *box.slices], changed)


def smallest_tiles(name: str, axis: int) -> list[int]:
    config = NETWORKS[name]
    if config.dimensions == 2 and axis == 0:
        return [config.sections]
    least = 2 ** (config.depth - 1)
    sizes = valid_input_sizes(config, 90, axis)
    return [n for n in sizes if n - sizes[0] >= least][:4]


def on_the_whole_volume(name: str, image: NDArray, average: TestTimeAugmentation = "none") -> NDArray[np.float32]:
    """The network applied once to the whole mirrored volume (2-D: to each section), written without tiles."""
    config, model = NETWORKS[name], network(name)
    smallest = tile_geometry(config, tuple(smallest_tiles(name, axis)[0] for axis in range(3)))
    axes = range(3 - config.dimensions, 3)
    margin, size = [0, 0, 0], list(image.shape)
    for axis in axes:
        margin[axis], unit = smallest.margin[axis], smallest.stride_unit[axis]
        size[axis] = smallest.input[axis]
        while size[axis] < image.shape[axis] + 2 * margin[axis]:
            size[axis] += unit
    window = Box(tuple(-m for m in margin), tuple(n - m for n, m in zip(size, margin, strict=True)))
    context, _ = divmod(config.sections, 2)
    grey = (ArrayImage(image).read_mirrored(window.grown((context, 0, 0))).astype(np.float32) - MEAN) / STD
    seen = np.stack([grey[z : z + config.sections] for z in range(image.shape[0])]) if config.dimensions == 2 else None
    x = torch.from_numpy(grey[None, None] if seen is None else seen)
    with torch.inference_mode():
        flips: list[list[int]] = {"none": [[]], "flips": [[], [-1], [-2], [-1, -2]]}[average]
        outputs = [torch.softmax(model(x.flip(f)), dim=1).flip(f) for f in flips]
        result = (sum(outputs) / len(outputs)).numpy()
    result = np.moveaxis(result, 1, 0) if config.dimensions == 2 else result[0]
    for axis in axes:  # the network's own crop is half of what is missing
        start = margin[axis] - (size[axis] - result.shape[1 + axis]) // 2
        result = np.take(result, range(start, start + image.shape[axis]), axis=1 + axis)
    return result


shapes = st.tuples(st.integers(1, 5), st.integers(1, 45), st.integers(1, 45))


@pytest.mark.parametrize("name", NETWORKS)
@settings(max_examples=3, deadline=None)
@given(data=st.data())
def test_any_tile_and_any_blocks_give_the_whole_volumes_result(name: str, data: st.DataObject) -> None:
    image = volume(data.draw(shapes, label="volume"))
    side = data.draw(st.sampled_from(smallest_tiles(name, 2)), label="tile")
    tile = (smallest_tiles(name, 0)[0], side, side)
    block = data.draw(st.tuples(st.integers(1, 5), st.integers(15, 45), st.integers(15, 45)), label="block")
    batch = data.draw(st.integers(1, 3), label="batch")
    p = predictor(name, tile, batch=batch)
    blockwise, at_once = predicted(p, image, block), predicted(p, image, image.shape)
    np.testing.assert_array_equal(blockwise, at_once)
    np.testing.assert_allclose(blockwise, on_the_whole_volume(name, image), atol=1e-5)


@pytest.mark.parametrize("name", ["paper", "padded", "3-D anisotropic"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 40, 1), (1, 33, 47), (3, 5, 2), (2, 1, 50)])
def test_tiny_and_odd_volumes(name: str, shape: tuple[int, ...]) -> None:
    """A single voxel, axes of size 1, a single section, and volumes smaller than the context, mirrored repeatedly."""
    image = volume(shape)
    p = predictor(name, tuple(smallest_tiles(name, axis)[0] for axis in range(3)))
    result = predicted(p, image, (1, 16, 16))
    np.testing.assert_array_equal(result, predicted(p, image, shape))
    np.testing.assert_allclose(result, on_the_whole_volume(name, image), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "average"),
    [
        *product(["paper", "padded", "3-D anisotropic"], ["flips", "symmetries"]),
        *product(["3-D"], ["flips_3d", "symmetries_3d"]),
    ],
)
def test_averaging_is_invariant_too(name: str, average: TestTimeAugmentation) -> None:
    image = volume((2, 20, 29))
    z = smallest_tiles(name, 0)[0]
    results = [
        predicted(predictor(name, (z, side, side), average), image, block)
        for side, block in zip(smallest_tiles(name, 2), [(1, 12, 16), (2, 15, 29)], strict=False)
    ]
    for other in results[1:]:
        np.testing.assert_allclose(results[0], other, atol=1e-5)
    np.testing.assert_array_equal(
        results[0], predicted(predictor(name, (z, *[smallest_tiles(name, 2)[0]] * 2), average), image, image.shape)
    )
    assert np.abs(results[0] - on_the_whole_volume(name, image)).max() > 1e-3


def test_flips_are_the_mean_of_the_four_flipped_volumes() -> None:
    """On a volume of one tile, whose flips meet the pooling grid as the tile's do."""
    image = volume((2, 20, 20))
    tile = tile_geometry(NETWORKS["paper"], 60)
    assert tile.output == (1, 20, 20)
    result = predicted(predictor("paper", 60, "flips"), image, image.shape)
    np.testing.assert_allclose(result, on_the_whole_volume("paper", image, "flips"), atol=1e-5)


def test_symmetries_refuse_a_tile_that_is_no_square() -> None:
    with pytest.raises(ValueError, match="tile 56 x 60"):
        predictor("paper", (1, 56, 60), "symmetries")


class IncongruentGeometry(TileGeometry):
    """Tiles as far apart as their output is wide, as 388 for the paper's 572."""

    @property
    def stride(self) -> tuple[int, ...]:
        return tuple(out - (unit > 1) for out, unit in zip(self.output, self.stride_unit, strict=True))


def test_a_stride_that_shifts_the_pooling_grid_changes_the_result() -> None:
    image = volume((1, 60, 60))
    right = predictor("paper", 60)
    wrong = Predictor(right.model, IncongruentGeometry(**vars(right.geometry)), GREY)
    whole = on_the_whole_volume("paper", image)
    assert np.abs(predicted(right, image, image.shape) - whole).max() < 1e-5
    assert np.abs(predicted(wrong, image, image.shape) - whole).max() > 1e-3


def test_a_margin_smaller_than_the_reach_changes_the_result() -> None:
    image, exact = volume((1, 60, 60)), tile_geometry(NETWORKS["padded"], 72)
    short = TileGeometry(exact.input, (1, 64, 64), (0, 4, 4), exact.stride_unit)
    whole = on_the_whole_volume("padded", image)
    for geometry, agrees in ((exact, True), (short, False)):
        result = predicted(Predictor(network("padded"), geometry, GREY), image, image.shape)
        assert (np.abs(result - whole).max() < 1e-5) == agrees


@pytest.mark.parametrize(("workers", "average"), [(1, "none"), (3, "none"), (3, "rotations")])
def test_any_number_of_workers_gives_the_same_bits(workers: int, average: TestTimeAugmentation) -> None:
    image = volume((3, 50, 41))
    p = predictor("paper", 60, average, batch=2)
    p = Predictor(p.model, p.geometry, p.normalisation, p.test_time_augmentation, batch=2, threads=workers)
    result = np.full((2, *image.shape), np.nan, np.float32)

    def write(probabilities: NDArray, box: Box) -> None:
        result[:, *box.slices] = probabilities

    boxes = Grid(image.shape, (1, 25, 41)).boxes()
    work = ReadInferWrite(lambda box: p.read(ArrayImage(image), box), lambda w, box, stop: p.infer(w, box), write)
    with local_client(4) as client:
        run_pipeline(boxes, work, client, max_in_flight=4)
    np.testing.assert_array_equal(result, predicted(predictor("paper", 60, average, batch=2), image, image.shape))


@pytest.mark.parametrize("average", ["none", "rotations"])
def test_tiles_without_tissue_are_left_out_and_change_nothing_elsewhere(average: TestTimeAugmentation) -> None:
    image, p = volume((2, 70, 80)), predictor("paper", 60, average)
    tissue = np.zeros(image.shape, bool)
    tissue[:, 20:33, 41:60] = tissue[1, 60:, :9] = True
    whole, box, seen = predicted(p, image, image.shape), Box.of_shape(image.shape), []
    found = p.infer(p.read(ArrayImage(image), box), box, tissue, lambda: seen.append(1))
    np.testing.assert_array_equal(found * tissue, whole * tissue)
    assert 0 < len(seen) < sum(len(lattice.cells(box)) for lattice in p.lattices) / 2


@pytest.mark.parametrize("batch", [1, 2])
def test_where_nothing_was_imaged_one_tile_is_computed_and_the_bits_are_the_same(batch: int) -> None:
    image = volume((2, 150, 90))
    image[:, :, 25:] = 7
    image[1] = 7
    p, calls = predictor("paper", 60, batch=batch), []
    handle = p.model.register_forward_pre_hook(lambda *_: calls.append(1))
    found = predicted(p, image, (1, 40, 90))
    computed = len(calls)
    object.__setattr__(p, "_constant_results", {"full": None} | dict.fromkeys(range(8)))  # keeps nothing more
    plain = predicted(p, image, (1, 40, 90))
    handle.remove()
    np.testing.assert_array_equal(found, plain)
    assert computed < (len(calls) - computed) / 2


sides = st.one_of(st.integers(1, 140), st.sampled_from([1, 2, 7, 31, 97, 139]))
"""Up to 7 tiles of the deepest network."""


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """One scheduler for all examples: a start of it takes longer than most of them."""
    with local_client(3) as one:
        yield one


@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_neither_cut_nor_jobs_nor_workers_enter_the_result(client: Client, data: st.DataObject) -> None:
    """Any volume up to 140 a side, in any blocks shared out between any jobs: what is stored is the whole image's."""
    shape = data.draw(st.tuples(st.integers(1, 2), sides, sides), label="volume")
    depth = data.draw(st.integers(2, 4), label="depth")
    average = data.draw(st.sampled_from(["none", "flips", "symmetries", "rotations"]), label="average")
    config, image = ModelConfig(depth=depth, base_channels=2), volume(shape)
    torch.manual_seed(depth)
    model, unit = build_model(config).eval(), 2 ** (depth - 1)
    fitting = [n for n in valid_input_sizes(config, 160) if n - valid_input_sizes(config, 160)[0] >= unit]
    tile, other = data.draw(st.permutations(fitting), label="tiles")[:2]
    block = data.draw(st.tuples(st.integers(1, 2), st.integers(20, 140), st.integers(20, 140)), label="block")
    grid = Grid(shape, block)
    jobs = block_range_names(grid, data.draw(st.integers(1, 2 * image.size), label="block_range"))
    how = {
        "test_time_augmentation": average,
        "batch": data.draw(st.integers(1, 3)),
        "threads": data.draw(st.integers(1, 3)),
    }
    p = Predictor(model, tile_geometry(config, tile), GREY, **how)
    whole = p.predict_box(ArrayImage(image), Box.of_shape(shape))
    result = np.full((2, *shape), np.nan, np.float32)
    for job in data.draw(st.permutations(jobs), label="order"):
        work = ReadInferWrite(
            lambda box: p.read(ArrayImage(image), box),
            lambda window, box, stop: p.infer(window, box),
            lambda probabilities, box: result.__setitem__((slice(None), *box.slices), probabilities),
        )
        run_pipeline(
            boxes_of_range(grid, job), work, client, max_in_flight=data.draw(st.integers(1, 4), label="in flight")
        )
    np.testing.assert_array_equal(result, whole)
    others = Predictor(model, tile_geometry(config, other), GREY, average).predict_box(
        ArrayImage(image), grid.box((0, 0, 0))
    )
    first = whole[:, *grid.box((0, 0, 0)).slices]
    np.testing.assert_allclose(others, first, atol=1e-5)
    levels = [quantised(torch.from_numpy(one.copy())).int() for one in (others, first)]
    assert (levels[0] - levels[1]).abs().max() <= 1


def test_quantised_probabilities_are_within_half_a_step() -> None:
    p = torch.linspace(0, 1, 1001)
    assert (quantised(p) / 255 - p).abs().max() <= 0.5 / 255 + 1e-6


def test_what_is_stored_is_the_last_classes_quantised() -> None:
    image, p = volume((2, 20, 26)), predictor("paper", 60)
    stored = replace(p, dtype="uint8", channels=1).predict_box(ArrayImage(image), Box.of_shape(image.shape))
    np.testing.assert_array_equal(stored, quantised(torch.from_numpy(predicted(p, image, image.shape)[1:])))
