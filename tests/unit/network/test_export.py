"""The export is the model: within the halo, at sizes never seen, in other runtimes, cut into tiles by others."""

import json
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from unet.config.model import ModelConfig
from unet.geometry.box import Box
from unet.geometry.mirroring import mirrored_indices
from unet.geometry.tiling import output_size, tile_geometry, valid_input_sizes
from unet.network.bioimage_io import bioimageio_package, check_package
from unet.network.export import (
    ExportError,
    PaddedNetwork,
    check_onnx,
    check_torchscript,
    export_metadata,
    padding_of,
    require_packages,
    to_onnx,
    to_torchscript,
    training_normalisation,
)
from unet.network.model import build_model
from unet.network.predictor import Predictor
from unet.volumes.intensity import Normalisation

MEAN, STD = 120.0, 40.0
VARIANTS: list[dict[str, Any]] = [
    {"depth": 4},
    {"convolution": "same"},
    {"upsampling": "bilinear"},
    {"skip": "add"},
    {"normalisation": "batch"},
    {"architecture": "fcn8s"},
    {"output": "affinities", "depth": 2},
    {"dimensions": 3, "depth": 2, "pooling": [(1, 2, 2)]},
]
every_variant = pytest.mark.parametrize("keys", VARIANTS, ids=str)


def network_of(keys: dict[str, Any], channels: int = 1) -> tuple[PaddedNetwork, ModelConfig]:
    """A small network whose batch statistics are not the identity."""
    torch.manual_seed(0)
    config = ModelConfig(**{"depth": 3, "base_channels": 2, **keys})
    model = build_model(config, channels)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-1, 1)
            module.running_var.uniform_(0.5, 2)
    return PaddedNetwork(model, padding_of(config), config.output), config


def channel(centre: float, scale: float) -> dict[str, Any]:
    """Return the entry of `intensity_statistics` for a channel that the export needs."""
    return {"centre": centre, "scale": scale, "fill_values": []}


def header_of(config: ModelConfig, **changes: Any) -> dict[str, Any]:
    """Return the header as `save_model` writes it."""
    statistics = {"first": [channel(MEAN, STD)], "second": [channel(1.0, 1.0)]}
    return {
        "version": "1",
        "model": config.model_dump(mode="json"),
        "classes": ["membrane", "cell interior"] if config.output == "classes" else ["z+1", "z+1y-2"],
        "voxel_size_nm": [50.0, 4.0, 4.0],
        "normalisation": {"trained_on": statistics},
        **changes,
    }


def tiles(network: PaddedNetwork, batch: int = 2) -> list[np.ndarray]:
    """Noise of two sizes: the smallest, and one that differs from axis to axis."""
    rng = np.random.default_rng(0)
    uneven = [axis.minimum + (i + 1) * axis.step for i, axis in enumerate(network.padding)]
    smallest = [axis.minimum for axis in network.padding]
    return [rng.standard_normal((n, 1, *shape), dtype=np.float32) for n, shape in ((1, smallest), (batch, uneven))]


class Array:
    """A volume in memory."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def read_mirrored(self, window: Box) -> np.ndarray:
        """Read a box as a store does."""
        axes = zip(window.start, window.stop, self.values.shape, strict=True)
        return self.values[np.ix_(*(mirrored_indices(lo, hi, n) for lo, hi, n in axes))]


def own_prediction(network: PaddedNetwork, config: ModelConfig, grey: np.ndarray, box: Box) -> np.ndarray:
    """The workflow's probabilities `(K, z, y, x)` of a box of the volume `grey`."""
    least = (valid_input_sizes(config, 200, axis)[-1] if axis >= 3 - config.dimensions else 1 for axis in range(3))
    geometry = tile_geometry(config, tuple(least) if config.dimensions == 2 else (24, 40, 40))
    grey_values = Normalisation((MEAN,), (STD,))
    return Predictor(network.model, geometry, grey_values, output=config.output).predict_box(Array(grey), box)


@pytest.mark.parametrize("keys", [{"depth": 5}, {"depth": 5, "convolution": "same"}, *VARIANTS], ids=str)
def test_the_network_takes_every_size_of_its_frame(keys):
    _, config = network_of({"base_channels": 1, **keys})
    padding = padding_of(config)
    for k in range(6):
        sizes = [axis.minimum + k * axis.step for axis in padding]
        inner = [n + axis.before + axis.after for n, axis in zip(sizes, padding, strict=True)]
        output = output_size(config, (1,) * (3 - config.dimensions) + tuple(inner))[-len(padding) :]
        for n, out, axis in zip(sizes, output, padding, strict=True):
            margin = (n + axis.before + axis.after - out) // 2
            assert margin <= axis.halo < margin + axis.step
            lost = margin if config.convolution == "valid" else 0
            assert (axis.front, axis.back) == (lost - axis.before, lost - axis.after)


@every_variant
def test_within_the_halo_it_gives_the_workflows_own_probabilities(keys):
    network, config = network_of(keys)
    padding, rng = network.padding, np.random.default_rng(1)
    starts = [3 * axis.step for axis in padding]
    sizes = [axis.minimum + 2 * axis.step for axis in padding]
    whole = (1,) * (3 - len(padding)) + tuple(lo + n + 5 for lo, n in zip(starts, sizes, strict=True))
    grey = rng.integers(0, 255, whole).astype(np.uint8)
    tile = tuple(slice(lo, lo + n) for lo, n in zip(starts, sizes, strict=True))
    within = tuple(slice(axis.halo, -axis.halo) for axis in padding)
    values = grey[tile] if len(padding) == 3 else grey[0][tile]
    found = network.predict(((values - np.float32(MEAN)) / np.float32(STD))[None, None])[0]
    assert found.shape[1:] == tuple(sizes)
    lo = [start + axis.halo for start, axis in zip(starts, padding, strict=True)]
    hi = [start + n - axis.halo for start, n, axis in zip(starts, sizes, padding, strict=True)]
    box = Box((0,) * (3 - len(padding)) + tuple(lo), (1,) * (3 - len(padding)) + tuple(hi))
    expected = own_prediction(network, config, grey, box).reshape(2, *(h - a for h, a in zip(hi, lo, strict=True)))
    assert expected.std() > 1e-3
    np.testing.assert_allclose(found[(slice(None), *within)], expected, rtol=0, atol=1e-4)


@every_variant
def test_onnx_and_torchscript_give_the_same_at_sizes_that_the_export_has_not_seen(keys, tmp_path):
    network, config = network_of(keys)
    to_onnx(network, header_of(config), tmp_path / "model.onnx")
    to_torchscript(network, tmp_path / "model.pt")
    assert check_onnx(tmp_path / "model.onnx", network, tiles(network)) < 1e-5
    assert check_torchscript(tmp_path / "model.pt", network, tiles(network)) < 1e-5


def test_sections_of_context_are_input_channels_of_an_exported_network():
    torch.manual_seed(0)
    config = ModelConfig(depth=2, base_channels=2, context_sections=1)
    network = PaddedNetwork(build_model(config), padding_of(config))
    assert training_normalisation(header_of(config)).channels == 3
    [first, _] = network.padding
    side = first.minimum + 4 * first.step
    grey = np.random.default_rng(0).integers(0, 255, (3, side, side)).astype(np.uint8)
    found = network.predict(((grey - np.float32(MEAN)) / np.float32(STD))[None])[0]
    box = Box((1, first.halo, first.halo), (2, side - first.halo, side - first.halo))
    expected = Predictor(network.model, tile_geometry(config, 28), Normalisation((MEAN,), (STD,))).predict_box(
        Array(grey), box
    )
    np.testing.assert_allclose(found[:, *box.slices[1:]], expected[:, 0], rtol=0, atol=1e-5)


def test_another_model_is_told_with_both_values(tmp_path):
    network, config = network_of({})
    to_onnx(network, header_of(config), tmp_path / "model.onnx")
    with torch.no_grad():
        network.model.classifier.bias[0] += 0.1
    with pytest.raises(ExportError, match=r"it gives 0\.\d+ at \(0, .*the network 0\.\d+; .* 0\.0001 at most"):
        check_onnx(tmp_path / "model.onnx", network, tiles(network))


def test_an_onnx_file_tells_what_is_needed_to_use_it(tmp_path):
    onnx = pytest.importorskip("onnx")
    network, config = network_of({})
    to_onnx(network, header_of(config), tmp_path / "model.onnx")
    graph = onnx.load(tmp_path / "model.onnx")
    metadata = {entry.key: json.loads(entry.value) for entry in graph.metadata_props}
    assert (metadata["mean"], metadata["std"], metadata["voxel_size_nm"]) == ([MEAN], [STD], [50.0, 4.0, 4.0])
    assert metadata["halo"] == [axis.halo for axis in network.padding]
    assert (graph.opset_import[0].version, graph.ir_version) == (17, 8)


def test_statistics_are_those_of_the_first_volume_and_a_constant_one_divides_by_1():
    network, config = network_of({})
    assert training_normalisation(header_of(config)) == Normalisation((MEAN,), (STD,), ((),))
    flat = {"trained_on": {"flat": [channel(7.0, 0.0)]}}
    assert export_metadata(network, header_of(config, normalisation=flat))["std"] == [1.0]
    with pytest.raises(ExportError, match="does not tell the grey values"):
        training_normalisation(header_of(config, normalisation={}))


def test_a_missing_package_is_told_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ExportError, match=r"needs onnxruntime, of the extra export: pip install"):
        require_packages()


def package(folder: Path, keys: dict[str, Any], **claims: Any) -> tuple[Path, PaddedNetwork, ModelConfig]:
    """A package whose test input is noise."""
    network, config = network_of(keys)
    weights = {"onnx": folder / "model.onnx", "torchscript": folder / "torchscript.pt"}
    to_onnx(network, header_of(config), weights["onnx"])
    to_torchscript(network, weights["torchscript"])
    shape = [axis.size(8) for axis in network.padding]
    grey = np.random.default_rng(0).integers(0, 255, (1, 1, *shape)).astype(np.float32)
    bioimageio_package(folder / "package.zip", network, header_of(config), weights, grey, **claims)
    return folder / "package.zip", network, config


def described(path: Path) -> dict[str, Any]:
    """`rdf.yaml` of a package."""
    with zipfile.ZipFile(path) as archive:
        return yaml.safe_load(archive.read("rdf.yaml"))


def test_a_package_passes_and_others_who_cut_into_tiles_find_the_workflows_own_probabilities(tmp_path):
    core = pytest.importorskip("bioimageio.core")
    path, network, config = package(tmp_path, {"depth": 4})
    check_package(path)
    y, x = (2 * axis.step * 10 for axis in network.padding)
    grey = np.random.default_rng(2).integers(0, 255, (1, y, x)).astype(np.uint8)
    description = core.load_model_description(path)
    sample = core.digest_spec.create_sample_for_model(description, inputs={"input": grey[None].astype(np.float32)})
    with core.create_prediction_pipeline(description, weight_format="onnx") as pipeline:
        whole = pipeline.predict_sample_with_blocking(sample, ns=3)
    found = next(iter(whole.members.values())).data.to_numpy()[0]
    expected = own_prediction(network, config, grey, Box((0, 0, 0), grey.shape))[:, 0]
    halo = network.padding[0].halo  # nearer to the volume's faces the tiles are mirrored in another way
    inner = (slice(None), slice(halo, -halo), slice(halo, -halo))
    assert found.shape == expected.shape
    np.testing.assert_allclose(found[inner], expected[inner], rtol=0, atol=1e-4)


def test_a_3d_package_of_affinities_is_valid_and_names_the_offsets(tmp_path):
    spec = pytest.importorskip("bioimageio.spec")
    path, _, _ = package(tmp_path, {**VARIANTS[-1], "output": "affinities"})
    output = described(path)["outputs"][0]
    assert output["axes"][1]["channel_names"] == ["z_1", "z_1y_minus_2"]
    assert "the probability that a voxel and the one at an offset belong to one object" in output["description"]
    assert described(path)["name"] == "3D U-Net for affinities in EM"
    assert spec.load_description(path).validation_summary.status != "failed"
    assert [axis.get("id") for axis in described(path)["inputs"][0]["axes"]] == [None, None, "z", "y", "x"]


def test_a_package_of_several_input_channels_normalises_each(tmp_path):
    pytest.importorskip("bioimageio.core")
    network, config = network_of({}, channels=2)
    statistics = {"first": [channel(MEAN, STD), channel(10.0, 0.0)]}
    header = header_of(config, normalisation={"trained_on": statistics})
    weights = {"onnx": tmp_path / "model.onnx", "torchscript": tmp_path / "torchscript.pt"}
    to_onnx(network, header, weights["onnx"])
    to_torchscript(network, weights["torchscript"])
    shape = [axis.size(8) for axis in network.padding]
    grey = np.random.default_rng(0).integers(0, 255, (1, 2, *shape)).astype(np.float32)
    bioimageio_package(tmp_path / "package.zip", network, header, weights, grey)
    check_package(tmp_path / "package.zip")
    told = described(tmp_path / "package.zip")["inputs"][0]
    assert told["axes"][1]["channel_names"] == ["grey_0", "grey_1"]
    kwargs = {"axis": "channel", "mean": [MEAN, 10.0], "std": [STD, 1.0]}
    assert told["preprocessing"] == [{"id": "fixed_zero_mean_unit_variance", "kwargs": kwargs}]


def test_authors_and_license_are_claimed_only_where_they_are_given(tmp_path):
    bare, _, _ = package(tmp_path, {})
    assert not {"authors", "license"} & set(described(bare))
    given, _, _ = package(tmp_path, {}, authors=["A. Nyone"], license="CC-BY-4.0")
    assert (described(given)["authors"], described(given)["license"]) == ([{"name": "A. Nyone"}], "CC-BY-4.0")


def test_what_older_readers_do_not_know_is_not_in_the_description(tmp_path):
    """Cover and page as plain names, identifiers as class names, no physical scale: see `unet.network.bioimage_io`."""
    path, _, _ = package(tmp_path, {})
    values = described(path)
    assert (values["covers"], values["documentation"]) == (["cover.png"], "README.md")
    assert values["outputs"][0]["axes"][1]["channel_names"] == ["membrane", "cell_interior"]
    assert not any("scale" in axis for tensor in (*values["inputs"], *values["outputs"]) for axis in tensor["axes"])


def test_a_package_that_is_not_valid_is_refused(tmp_path):
    pytest.importorskip("bioimageio.core")
    path, _, _ = package(tmp_path, {})
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    files["rdf.yaml"] = files["rdf.yaml"].replace(b"min: ", b"min: -")
    with zipfile.ZipFile(tmp_path / "wrong.zip", "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    with pytest.raises(ExportError, match=r"not a valid bioimage\.io package"):
        check_package(tmp_path / "wrong.zip")
