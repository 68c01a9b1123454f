"""Tile arithmetic: the paper's numbers, and the network itself as the oracle for every variant."""

from itertools import product
from math import prod

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unet.config.model import ModelConfig
from unet.geometry.box import Box
from unet.geometry.grid import Grid
from unet.geometry.network_sizes import receptive_field_overhang, stride_unit
from unet.geometry.tiling import (
    TileGeometry,
    TileSizeError,
    alternative_tile,
    output_size,
    tile_candidates,
    tile_count,
    tile_geometry,
    tiles_for,
    valid_input_sizes,
)
from unet.network.model import build_model

VARIANTS = [
    {"architecture": architecture, "convolution": convolution, "upsampling": upsampling}
    for architecture, convolution, upsampling in product(
        ("unet", "fcn8s"), ("valid", "same"), ("transposed", "bilinear")
    )
]


def test_sizes_of_the_paper() -> None:
    paper = tile_geometry(ModelConfig(), 572)
    assert paper == TileGeometry((1, 572, 572), (1, 388, 388), (0, 92, 92), (1, 16, 16))
    assert paper.stride == (1, 384, 384)


def test_valid_sizes_of_the_paper_are_16_b_plus_60() -> None:
    sizes = valid_input_sizes(ModelConfig(), up_to=1000)
    assert sizes == [16 * b + 60 for b in range(8, 59)]
    assert [output_size(ModelConfig(), n)[2] for n in sizes] == [16 * b - 124 for b in range(8, 59)]


@pytest.mark.parametrize(
    ("tile", "nearest"),
    [(570, "nearest are 556 and 572"), (571, "556 and 572"), (100, "the smallest is 188"), (-3, "188")],
)
def test_error_names_the_nearest_sizes(tile: int, nearest: str) -> None:
    with pytest.raises(TileSizeError, match=f"no tile of {tile} fits a valid U-Net of depth 5: .*{nearest}"):
        tile_geometry(ModelConfig(), tile)


def test_error_of_an_output_smaller_than_the_stride_unit_names_the_next_size() -> None:
    with pytest.raises(TileSizeError, match=r"output of 4, less than the 16 .* is 204"):
        tile_geometry(ModelConfig(), 188)
    assert tile_geometry(ModelConfig(), 204).stride == (1, 16, 16)


def test_error_names_the_axis_of_a_3d_network() -> None:
    config = ModelConfig(dimensions=3, depth=3)
    with pytest.raises(TileSizeError, match=r"no tile of 45 along z .* 44 and 48"):
        tile_geometry(config, (45, 60, 60))


def test_a_tile_of_a_2d_network_is_one_section() -> None:
    with pytest.raises(TileSizeError, match="not 3"):
        tile_geometry(ModelConfig(), (3, 572, 572))


def test_a_tile_of_a_2d_network_with_context_has_its_sections_as_margin() -> None:
    config = ModelConfig(context_sections=2)
    assert tile_geometry(config, 572) == TileGeometry((5, 572, 572), (1, 388, 388), (2, 92, 92), (1, 16, 16))
    assert alternative_tile(config, (5, 572, 572))[0] == 5
    assert {tile[0] for tile in tile_candidates(config, Grid((9, 500, 400), (4, 256, 256)))} == {5}
    with pytest.raises(TileSizeError, match="one section and 4 of context, so its z is 5, not 1"):
        tile_geometry(config, (1, 572, 572))


THICK = ModelConfig(dimensions=3, depth=3, base_channels=1, pooling="auto").for_voxels((30, 8, 8))


@pytest.mark.parametrize("keys", [{}, {"architecture": "fcn8s"}, {"upsampling": "bilinear"}, {"block": "residual"}])
def test_sizes_of_a_network_with_kernels_of_one_along_z(keys: dict) -> None:
    config = THICK.model_copy(update=keys)
    assert config.kernels == [(1, 3, 3), (3, 3, 3), (3, 3, 3)]
    assert config.pooling == [(1, 2, 2), (2, 2, 2)]
    network, side = build_model(config).eval(), valid_input_sizes(config, 70, 2)[0]
    sizes = valid_input_sizes(config, 30, 0)
    for z in range(1, 22):
        try:
            with torch.inference_mode():
                out = network(torch.zeros(1, 1, z, side, side)).shape[2]
        except (ValueError, RuntimeError):
            out = 0
        assert (z in sizes) == (out > 0)
        assert not out or output_size(config, (z, side, side))[0] == out


def test_reach_along_z_of_a_padded_network_with_kernels_of_one() -> None:
    """Use weights of one sign: nothing cancels, so a bright voxel changes every output that depends on it."""
    config = THICK.model_copy(update={"convolution": "same"})
    network, furthest = build_model(config).double().eval(), 0
    for weights in network.parameters():
        weights.data = weights.data.abs().clamp(min=0.05) if weights.ndim > 1 else weights.data.zero_()
    with torch.inference_mode():
        for voxel in (20, 21):
            image = torch.zeros(1, 1, 44, 16, 16, dtype=torch.float64)
            image[0, 0, voxel] = 1
            changed = (network(image)[0, 0] > 0).nonzero()[:, 0]
            first = changed // 2 * 2
            furthest = max(furthest, int(torch.maximum(first - voxel, voxel - (first + 1)).max()))
    assert furthest == receptive_field_overhang(config, 0)


def test_padded_network_of_the_papers_depth_reaches_94_and_is_cut_by_96() -> None:
    config = ModelConfig(convolution="same")
    assert receptive_field_overhang(config) == 94
    assert tile_geometry(config, 576) == TileGeometry((1, 576, 576), (1, 384, 384), (0, 96, 96), (1, 16, 16))


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: "-".join(v.values()))
@pytest.mark.parametrize("pooling", [None, [(1, 1, 2), (1, 2, 2)], [(1, 2, 2), (1, 1, 2)]])
def test_fitting_sizes_are_those_the_network_takes(variant: dict, pooling: list | None) -> None:
    config = ModelConfig(depth=3, base_channels=1, pooling=pooling, **variant)
    network = build_model(config).eval()
    axis_sizes = {axis: valid_input_sizes(config, 70, axis) for axis in (1, 2)}
    for n in (*axis_sizes[1][:2], *axis_sizes[2][:2]):
        for m in range(n - 2, n + 3):
            fits = m in axis_sizes[1] and m in axis_sizes[2]
            try:
                with torch.inference_mode():
                    shape = network(torch.zeros(1, 1, m, m)).shape[2:]
            except (ValueError, RuntimeError):
                shape = (0, 0)
            if variant["convolution"] == "valid":
                assert fits == (min(shape) > 0)
                assert not fits or output_size(config, m)[1:] == tuple(shape)
            elif fits:
                assert tuple(shape) == (m, m)


@pytest.mark.parametrize(("architecture", "upsampling"), list(product(("unet", "fcn8s"), ("transposed", "bilinear"))))
@pytest.mark.parametrize("pooling", [None, [(1, 1, 2), (1, 2, 2), (1, 1, 2)]])
def test_reach_is_the_furthest_voxel_that_changes_a_period_of_the_networks_output(
    architecture: str, upsampling: str, pooling: list | None
) -> None:
    """Use weights of one sign: nothing cancels, so a bright voxel changes every output that depends on it."""
    config = ModelConfig(
        architecture=architecture, upsampling=upsampling, convolution="same", depth=4, base_channels=1, pooling=pooling
    )
    network = build_model(config).double().eval()
    for weights in network.parameters():
        weights.data = weights.data.abs().clamp(min=0.05) if weights.ndim > 1 else weights.data.zero_()
    furthest = {1: 0, 2: 0}
    with torch.inference_mode():
        for voxel in range(80, 88):
            image = torch.zeros(1, 1, 168, 168, dtype=torch.float64)
            image[..., voxel, voxel] = 1
            changed = (network(image)[0, 0] > 0).nonzero()
            for axis in (1, 2):
                unit = stride_unit(config)[axis]
                first = changed[:, axis - 1] // unit * unit  # of the period that changed
                outside = torch.maximum(first - voxel, voxel - (first + unit - 1))
                furthest[axis] = max(furthest[axis], int(outside.max()))
    assert furthest == {axis: receptive_field_overhang(config, axis) for axis in (1, 2)}


def test_cells_lie_on_one_lattice_whatever_the_box() -> None:
    geometry = tile_geometry(ModelConfig(depth=2), 28)  # output 20 - 8 = 12
    assert geometry.stride == (1, 12, 12)
    cells = tiles_for(Box((2, 5, 13), (4, 12, 25)), geometry)
    assert [str(cell) for cell in cells] == [
        "2:3,0:12,12:24",
        "2:3,0:12,24:36",
        "3:4,0:12,12:24",
        "3:4,0:12,24:36",
    ]


def test_window_is_what_all_tiles_of_a_box_read() -> None:
    geometry = tile_geometry(ModelConfig(depth=2), 28)
    box = Box((2, 5, 13), (4, 12, 25))
    boxes = [geometry.input_box(cell) for cell in tiles_for(box, geometry)]
    assert geometry.read_box(box) == Box(min(b.start for b in boxes), max(b.stop for b in boxes))
    assert geometry.read_box(box).contains(box)


def test_the_best_candidate_has_a_stride_that_divides_the_block() -> None:
    config = ModelConfig()
    for block, stride in (((16, 1024, 1024), 1024), ((1, 512, 512), 512), ((4, 768, 768), 768)):
        tile = tile_candidates(config, Grid((100, 10_000, 10_000), block))[0]
        assert tile_geometry(config, tile).stride == (1, stride, stride)


def test_a_volume_smaller_than_its_block_counts_as_it_is() -> None:
    tile = tile_candidates(ModelConfig(), Grid((20, 500, 400), (16, 1024, 1024)))[0]
    assert tile_geometry(ModelConfig(), tile).stride == (1, 512, 512)


@settings(max_examples=20)
@given(
    convolution=st.sampled_from(["valid", "same"]),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 90), st.integers(1, 90)),
    block=st.tuples(st.integers(1, 3), st.integers(1, 40), st.integers(1, 40)),
)
def test_candidates_are_the_sizes_that_no_other_beats(convolution: str, shape: tuple, block: tuple) -> None:
    """By the tiles of all blocks, listed, and the voxels that they read."""
    config, grid = ModelConfig(depth=3, convolution=convolution), Grid(shape, block)
    geometries = [tile_geometry(config, n) for n in valid_input_sizes(config, 200) if output_size(config, n)[1] >= 4]
    listed = {g.input: sum(len(tiles_for(box, g)) for box in grid.boxes()) for g in geometries}
    voxels = {tile: count * prod(tile) for tile, count in listed.items()}
    found = tile_candidates(config, grid)
    assert voxels[found[0]] == min(voxels.values())
    assert [voxels[tile] for tile in found] == sorted(voxels[tile] for tile in found)
    assert len({listed[tile] for tile in found}) == len(found)


def test_a_pixel_to_spare_costs_a_padded_network_a_unit_of_stride() -> None:
    """Its outputs are whole multiples of the unit; those of the paper's network have 4 px more."""
    grid = Grid((1, 4096, 4096), (1, 1024, 1024))
    padded, valid = ModelConfig(convolution="same"), ModelConfig()
    assert tile_candidates(valid, grid) == tile_candidates(valid, grid, spare=(0, 1, 1))
    assert (1024 + 2 * 96,) * 2 in {tile[1:] for tile in tile_candidates(padded, grid)}
    spared = {tile[1:] for tile in tile_candidates(padded, grid, spare=(0, 1, 1))}
    assert (1024 + 2 * 96,) * 2 not in spared
    assert (1024 + 16 + 2 * 96,) * 2 in spared


@pytest.mark.parametrize("tile", [20, 28, 36, 60])
@pytest.mark.parametrize("block", [(1, 16, 16), (2, 25, 31), (8, 64, 64)])
def test_tiles_are_counted_without_listing_them(tile: int, block: tuple[int, ...]) -> None:
    grid, geometry = Grid((3, 40, 50), block), tile_geometry(ModelConfig(depth=2), tile)
    assert tile_count(grid, geometry) == sum(len(tiles_for(box, geometry)) for box in grid.boxes())


def test_candidates_of_a_3d_network_fit_its_blocks() -> None:
    config = ModelConfig(dimensions=3, depth=3, pooling=[(1, 2, 2), (2, 2, 2)])
    z, y, x = tile_geometry(config, tile_candidates(config, Grid((64, 512, 512), (16, 256, 256)))[0]).stride
    assert (16 % z, 256 % y, 256 % x) == (0, 0, 0)
