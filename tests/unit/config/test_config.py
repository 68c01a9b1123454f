"""The defaults are the paper's, and every mistake is named with key, value and what is allowed."""

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from unet.config.inputs import source_files
from unet.config.model import ModelConfig
from unet.config.pages import SAMPLE
from unet.config.root import ConfigError, load_config
from unet.config.train import TrainConfig
from unet.config.weights import WeightsConfig
from unet.geometry.tiling import tile_geometry

ROOT = Path(__file__).parents[3]
BASE: dict[str, Any] = {"volumes": {"train": {"raw": "a.tif", "labels": "b.tif"}}}
CLASSES = {"label_kind": "classes", "class_values": {"membrane": 0, "cell": [100, 200], "ignore": 7, "synapse": 255}}


def changed(**settings: Any) -> dict[str, Any]:
    """The smallest configuration with some keys set; `train__steps` is `train.steps`."""
    values = copy.deepcopy(BASE)
    for key, value in settings.items():
        *sections, last = key.split("__")
        inside = values
        for section in sections:
            inside = inside.setdefault(section, {})
        inside[last] = value
    return values


def test_the_defaults_are_the_papers() -> None:
    config = load_config(BASE)
    paper = ModelConfig(
        dimensions=2,
        depth=5,
        base_channels=64,
        architecture="unet",
        convolution="valid",
        upsampling="transposed",
        skip="concatenate",
        normalisation="none",
        dropout=0.5,
    )
    assert config.model == paper
    assert config.weights == WeightsConfig(w0=5, sigma=5, class_balance=False)
    assert (config.train.momentum, config.train.batch, config.train.optimizer) == (0.99, 1, "sgd")
    augment = config.train.augment
    assert (augment.elastic_px, augment.elastic_grid, augment.elastic_probability) == (10, 3, 1)
    geometry = tile_geometry(config.model, config.train.tile)
    assert (geometry.input, geometry.output) == ((1, 572, 572), (1, 388, 388))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        # unknown keys
        ({"modle": {}}, ["modle: unknown key", "model", "volumes"]),
        ({"model__depht": 4}, ["model.depht: unknown key", "depth", "checkpoint"]),
        ({"volumes__train__rwa": "x"}, ["volumes.train.rwa: unknown key", "raw", "voxel_size_nm"]),
        ({"train__augment__elastic": 1}, ["train.augment.elastic: unknown key", "elastic_px"]),
        # types
        ({"model__depth": "deep"}, ["model.depth: got 'deep'; it has to be a whole number"]),
        ({"train__steps": 1.5}, ["train.steps", "1.5", "a whole number"]),
        ({"train__steps": True}, ["train.steps: got True (YAML reads yes and on so as well)", "a whole number"]),
        ({"predict__tile": False}, ["got False (YAML reads no and off so as well)", "a whole number", "or 'auto'"]),
        ({"volumes__train__voxel_size_nm": [True, 4, 4]}, ["volumes.train.voxel_size_nm.0: got True", "a number, as"]),
        ({"train__volume_weights": {"train": True}}, ["train.volume_weights.train: got True", "a number, as 0.001"]),
        ({"train__learning_rate": float("inf")}, ["train.learning_rate: got inf", "a number that is finite"]),
        ({"train__seed": -1}, ["train.seed: got -1; it has to be a number of at least 0"]),
        ({"train__seed": 2**64}, ["train.seed: got 18446744073709551616; it has to be a number less than 9.2"]),
        ({"train__tile": "big"}, ["train.tile", "'big'", "a whole number or numbers in brackets"]),
        ({"predict__job_voxels": "many"}, ["predict.job_voxels", "'many'", "'auto'"]),
        ({"volumes__train__raw": 3}, ["volumes.train.raw: got 3", "a text, in quotes where"]),
        ({"volumes__train": None}, ["volumes.train: it has no value on its line"]),
        ({"predict": []}, ["predict: got []", "keys with values"]),
        ({"results": None}, ["results: it has no value on its line"]),
        # ranges
        ({"model__depth": 9}, ["model.depth", "9", "6"]),
        ({"model__dropout": 1.0}, ["model.dropout", "1.0", "less than 1"]),
        ({"train__steps": 0}, ["train.steps", "0", "greater than 0"]),
        ({"train__clip_norm": -1}, ["train.clip_norm", "-1", "greater than 0"]),
        ({"sample__size": 10}, ["sample.size", "10", "64"]),
        ({"segment__threshold": 1.5}, ["segment.threshold", "1.5", "less than 1", "'auto'"]),
        ({"volumes__train__voxel_size_nm": [50, 4, -1]}, ["volumes.train.voxel_size_nm.2", "-1", "greater than 0"]),
        ({"volumes__train__voxel_size_nm": [50, 4]}, ["volumes.train.voxel_size_nm", "[50, 4]", "number 3 is missing"]),
        ({"volumes__train__sections": [3, 3]}, ["volumes.train", "[3, 3]", "empty"]),
        ({"volumes__my vol": {"raw": "x"}}, ["volumes", "'my vol'", "letters, digits, - and _"]),
        ({"volumes": {}}, ["volumes", "at least one"]),
        ({"segment__agglomerate__threshold": 1.5}, ["segment.agglomerate.threshold", "1.5", "less than 1", "'auto'"]),
        ({"segment": {"method": "watershed", "foreground": ["a", "b"]}}, ["segment", "['a', 'b']", "needs one class"]),
        ({"segment__foreground": []}, ["segment: foreground is empty"]),
        (
            {"segment": {"method": "watershed", "agglomerate": {"threshold": "auto"}}},
            ["agglomerate.threshold: auto needs", "threshold_volumes"],
        ),
        ({"segment__foreground": ["interior", "cell"]}, ["segment.foreground: 'cell'", "interior"]),
        ({"train__learning_rate": "0,001"}, ["got '0,001'; it has to be a number, as 0.001"]),
        ({"train__volumes": "train"}, ["train.volumes: got 'train'; it has to be a list in brackets: [train]"]),
        (
            {"volumes__train__voxel_size_nm": 4},
            ["voxel_size_nm: got 4; it has to be numbers in brackets, as [1, 2, 3]"],
        ),
        ({"volumes__train__voxel_size_nm": [50, 4, 4, 1]}, ["it has to be a list of at most 3"]),
        ({"volumes__train__raw": []}, ["volumes.train.raw: got []", "a list of at least 1"]),
        ({"volumes__train__raw": ""}, ["volumes.train.raw: got '', which is no path"]),
        ({"volumes__train__mask": "~nobody-of-this-name/m"}, ["volumes.train.mask: got '~nobody", "no home folder"]),
        ({"storage__address": "foo://bucket/run"}, ["storage.address: foo:// is no address", "s3://bucket/path"]),
        ({"volumes__train__raw": "ftp://host/a.zarr"}, ["volumes.train.raw: ftp:// is no address"]),
        ({"volumes__train__raw": ["a.tif", "b.tif"]}, ["volumes.train: raw and labels are both b.tif"]),
        ({"volumes__train__mask": "a.tif"}, ["volumes.train: raw and mask are both a.tif"]),
        # choices
        ({"volumes__train__label_kind": "instance"}, ["'classes' (did you mean instances?)"]),
        (
            {
                "volumes__train": {
                    "raw": "a.tif",
                    "labels": "b.tif",
                    "label_kind": "classes",
                    "class_values": {"membrane": 0, "cell": [0, 255]},
                }
            },
            ["volumes.train: class_values: grey value 0 is listed under membrane and cell"],
        ),
        ({"volumes__train__label_kind": "cells"}, ["label_kind", "'cells'", "'instances', 'interior' or 'classes'"]),
        ({"train__augment__rotation": "left"}, ["train.augment.rotation", "'left'", "'none', 'right' or 'any'"]),
        ({"segment__foreground": "cell"}, ["segment.foreground", "'cell'", "['interior']"]),
        # combinations
        ({"storage__block": [16, 100, 100]}, ["block [16, 100, 100]", "chunk [8, 128, 128]"]),
        ({"model__pooling": [[1, 2, 2]]}, ["pooling has 1 entries", "depth 5 has 4"]),
        ({"model__pooling": [[1, 2, 3]] * 4}, ["pooling factors are 1 or 2", "[1, 2, 3]"]),
        ({"model__pooling": [[2, 2, 2]] * 4}, ["2-D network does not pool along z"]),
        ({"model": {"architecture": "fcn8s", "depth": 2}}, ["fcn8s", "got 2"]),
        ({"volumes__train__label_kind": "classes"}, ["classes needs at least two names", "[]"]),
        ({"volumes__train__class_values": {"a": 1}}, ["class_values is for label_kind: classes", "instances"]),
        ({"train__volumes": ["tarin"]}, ["train.volumes", "'tarin'", "['train']; did you mean train?"]),
        ({"train__volumes": []}, ["train.volumes is empty", "model.checkpoint"]),
        ({"evaluate__volumes": ["train"], "predict__volumes": []}, ["evaluate.volumes", "'train'", "predict.volumes"]),
        ({"volumes__test__raw": "c.tif", "train__validation": ["test"]}, ["'test' has no labels", "volumes.test.lab"]),
        (
            {"volumes__two": {"raw": "c.tif", "labels": "d.tif", **CLASSES}, "train__validation": ["two"]},
            ["'train' has classes ['membrane', 'interior']", "'two' has ['membrane', 'cell', 'synapse']"],
        ),
        ({"segment__threshold": "auto"}, ["segment.threshold: auto needs evaluate.threshold_volumes"]),
        (
            {
                "volumes__two": {"raw": "c.tif", "labels": "d.tif", **CLASSES},
                "predict__volumes": ["two"],
                "evaluate__volumes": ["two"],
            },
            [
                "evaluate.volumes: volume 'two' has classes ['membrane', 'cell', 'synapse']",
                "'interior'] from volume 'tr",
            ],
        ),
        # what contradicts itself
        ({"train__volumes": ["train", "train"]}, ["train.volumes", "'train' 2 times", "train.volume_weights"]),
        (
            {f"volumes__{'v' * 101}": {"raw": "c.tif"}},
            ["the name vvvvvvvvvvvvvvvvvvvv... has 101 letters", "can have 100"],
        ),
        ({f"volumes__x{'ab' * 20}": {"raw": "c.tif"}}, ["ends with 'ab' 20 times or more", "rename it"]),
        ({"volumes__Train": {"raw": "c.tif"}}, ["'train' and 'Train' differ in capital letters alone", "rename one"]),
        ({"predict__volumes": ["train", "train"]}, ["predict.volumes", "'train' 2 times; name it once"]),
        ({"train__validation": ["train", "train"]}, ["train.validation", "'train' 2 times; name it once"]),
        ({"evaluate__volumes": ["train"] * 3}, ["evaluate.volumes", "'train' 3 times"]),
        (
            {"volumes__train__label_kind": "interior", "volumes__train__ignore_id": 0},
            ["ignore_id 0", "label_kind is interior", "remove ignore_id", "ignore: 0"],
        ),
        (
            {"volumes__train": {"raw": "a.tif", "labels": "b.tif", **CLASSES, "ignore_id": 9}},
            ["ignore_id 9", "label_kind is classes", "list it in class_values under ignore"],
        ),
        (
            {"volumes__train__voxel_size_nm": [0.05, 0.004, 0.004]},
            ["train.voxel_size_nm", "if these are µm, it is [50, 4, 4] nm"],
        ),
        ({"volumes__train__voxel_size_nm": [50, 4, 0.1]}, ["[50, 4, 0.1] nm is no voxel size", "0.5 to 10,000"]),
        ({"volumes__train__voxel_size_nm": [2e4, 400, 400]}, ["[20000, 400, 400] nm is", "give it as [z, y, x] in nm"]),
        (
            {"segment__watershed__expand_px": 2},
            ["segment: watershed is {'expand_px': 2.0}", "with method: components"],
        ),
        (
            {"segment__agglomerate__method": "none"},
            ["segment: agglomerate is {'method': 'none'}", "method: components"],
        ),
        (
            {"segment": {"method": "watershed", "agglomerate": {"method": "none", "threshold": 0.3}}},
            ["segment: agglomerate.threshold is 0.3", "agglomerate.method: none"],
        ),
        (
            {"segment": {"method": "watershed", "agglomerate": {"quantile": 0.7}}},
            ["segment: agglomerate.quantile is 0.7", "agglomerate.method: mean"],
        ),
        ({"segment__suspected_merges": {}}, ["segment: suspected_merges is {}", "method: components"]),
        (
            {
                "segment": {
                    "method": "watershed",
                    "agglomerate": {"method": "none"},
                    "suspected_merges": {"margin": 0.2},
                }
            },
            ["segment: suspected_merges is {'margin': 0.2}", "agglomerate.method: none"],
        ),
        ({"train__patience": 3}, ["patience is 3", "train.validation"]),
        # one file in two places, however its path is written
        ({"volumes__train__labels": "./a.tif"}, ["volumes.train: raw and labels are both ./a.tif"]),
        ({"volumes__train__mask": "x/../a.tif"}, ["raw and mask are both x/../a.tif"]),
        ({"volumes__train__compare": {"x": "./a.tif"}}, ["compare.x is ./a.tif, as raw or labels are"]),
        ({"volumes__train__compare": {"x": "b.tif"}}, ["compare.x is b.tif, as raw or labels are"]),
        ({"volumes__train__compare": {"ours": "c.tif"}}, ["compare: the name 'ours' is that of a column"]),
        (
            {"volumes__train__labels": "results/volumes/train/segmentation.zarr"},
            ["train.labels: results", "made by this"],
        ),
        (
            {"results": "./r", "train__start_from": "r/model/model.pt"},
            ["start_from: the training would write its model"],
        ),
        # what would have no effect, or another one
        ({"volumes__train__raw": {"path": "a.tif", "offset": [0, 0, 1]}}, ["raw has offset or first_number", "crop"]),
        ({"normalisation__percentiles": [0.01, 0.99]}, ["[0.01, 0.99], which are in %", "write [1.0, 99.0]"]),
        # tiles: the nearest sizes that fit
        ({"train__tile": 570}, ["train.tile", "570", "556 and 572"]),
        ({"predict__tile": 100}, ["predict.tile", "100", "smallest is 188"]),
        ({"train__tile": [1, 570, 572]}, ["train.tile", "570", "556 and 572"]),
        ({"train__tile": [2, 572, 572]}, ["train.tile", "z is 1, not 2"]),
        ({"train__tile": 188}, ["train.tile", "188", "less than the 16", "204"]),
        ({"train__loss_region": "tile"}, ["train.loss_region is tile", "convolution is valid", "exact"]),
        (
            {"train__loss_region": "tile", "model__convolution": "same", "train__tile": 570},
            ["train.tile", "570", "560 and 576"],
        ),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)
def test_every_mistake_is_named_with_key_value_and_what_is_allowed(settings: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigError) as refused:
        load_config(changed(**settings))
    for word in words:
        assert word in str(refused.value), str(refused.value)


def test_a_missing_key_and_several_mistakes_at_once_have_a_line_each() -> None:
    with pytest.raises(ConfigError) as refused:
        load_config({"volumes": {"train": {}}, "model": {"depth": 1}, "sgement": {}})
    lines = str(refused.value).splitlines()
    assert [line.partition(":")[0] for line in lines] == ["volumes.train.raw", "model.depth", "sgement"]
    assert lines[0] == "volumes.train.raw: missing; it has no default, so write `raw: ...` below volumes.train"


@pytest.mark.parametrize(
    ("settings", "meant"),
    [
        ({"trian": {}}, "trian: unknown key; did you mean train?"),
        ({"train__augment__rotatoin": 1}, "train.augment.rotatoin: unknown key; did you mean rotation?"),
        ({"volumes__train__voxels_nm": [1, 1, 1]}, "volumes.train.voxels_nm: unknown key; did you mean voxel_size_nm?"),
        ({"tile": 48}, "tile: unknown key; tile is a key of train and of predict; allowed here: results"),
        ({"voxel_size_nm": [1, 1, 1]}, "voxel_size_nm: unknown key; voxel_size_nm is a key of volumes;"),
        ({"qqq": 1}, "qqq: unknown key; allowed here: results"),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)
def test_an_unknown_key_is_answered_by_what_it_may_have_meant(settings: dict[str, Any], meant: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load_config(changed(**settings))
    assert str(refused.value).startswith(meant)


def test_the_branches_of_a_union_share_a_line_and_long_values_are_cut() -> None:
    with pytest.raises(ConfigError) as refused:
        load_config(changed(predict__tile={"a": [1] * 999}))
    (line,) = str(refused.value).splitlines()
    assert line.startswith("predict.tile: got {'a': [1, 1, ")
    assert line.endswith("[...]; it has to be a whole number or numbers in brackets, as [1, 2, 3] or 'auto'")
    assert len(line) < 300


@pytest.mark.parametrize("name", ["run{1}", "{volume}", "", "~nobody-of-this-name/run"])
def test_results_are_the_name_of_a_folder(name: str) -> None:
    with pytest.raises(ConfigError, match=f"results: got '{re.escape(name)}'.*(wildcards|home|no path)"):
        load_config(changed(results=name))


def test_paths_of_images_may_have_braces_but_no_line_breaks() -> None:
    volume = {"raw": ["a.tif", "b{z}.tif"], "labels": "l.tif", "voxel_size_nm": [50, 4, 4]}
    assert load_config(changed(volumes__train=volume)).inputs["volumes.train.raw.1"] == "b{z}.tif"
    with pytest.raises(ConfigError, match=r"volumes\.train\.labels: got 'l\\n\.tif', with a line break"):
        load_config(changed(volumes__train=volume | {"labels": "l\n.tif"}))


def test_a_tilde_is_the_home_folder_in_every_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    volume = {"raw": ["~/a.h5:/raw", "b.tif"], "labels": "~/l.tif", "mask": "~/m.tif", "voxel_size_nm": [50, 4, 4]}
    scored = {"compare": {"peer": "~/p.tif"}, "skeletons": {"files": "~/true"}}
    config = load_config(changed(results="~/r", volumes__train=volume | scored, model__checkpoint="~/model.pt"))
    given = config.volumes["train"]
    assert [one.path for one in given.raw] == ["/home/me/a.h5:/raw", "b.tif"]
    assert given.labels is not None
    assert given.mask is not None
    assert (given.labels[0].path, given.mask.path) == ("/home/me/l.tif", "/home/me/m.tif")
    assert given.compare["peer"].path == "/home/me/p.tif"
    assert given.skeletons is not None
    assert given.skeletons.files == "/home/me/true"
    assert (config.results, config.model.checkpoint) == ("/home/me/r", "/home/me/model.pt")


def test_nothing_can_be_changed_after_the_check() -> None:
    config = load_config(BASE)
    with pytest.raises(ValueError, match="frozen"):
        config.train.steps = 1  # type: ignore[misc]


def test_classes_are_named_by_the_training_volumes_and_ignore_is_none() -> None:
    config = load_config(changed(volumes__train={"raw": "a.tif", "labels": "b.tif", **CLASSES}))
    assert config.class_names == ["membrane", "cell", "synapse"]
    assert config.volumes["train"].grey_values_of_class["membrane"] == [0]


def test_with_a_checkpoint_no_training_volume_is_needed() -> None:
    values = {"volumes": {"new": {"raw": "n.h5:/raw"}}, "model": {"checkpoint": "model.pt"}}
    config = load_config({**values, "predict": {"volumes": ["new"]}})
    assert config.used_volumes == ["new"]
    assert source_files(config) == {"volumes.new.raw": Path("n.h5"), "model.checkpoint": Path("model.pt")}


def test_how_a_network_is_trained_is_no_error_beside_a_checkpoint() -> None:
    """The section `model` does not describe a given network; its default is 2-D."""
    three_d = {"train__augment__missing_section": 0.1}
    load_config(changed(**three_d, model__checkpoint="model.pt"))
    with pytest.raises(ConfigError, match=r"missing_section is 0\.1, but a 2-D network without context"):
        load_config(changed(**three_d))


def test_files_of_volumes_that_nobody_uses_are_not_asked_for() -> None:
    config = load_config(changed(volumes__spare={"raw": "elsewhere.tif"}))
    assert source_files(config) == {"volumes.train.raw": Path("a.tif"), "volumes.train.labels": Path("b.tif")}


@pytest.mark.parametrize("path", sorted((ROOT / "config").rglob("*.yaml")), ids=lambda path: path.name)
def test_the_configurations_of_the_repository_load(path: Path) -> None:
    assert load_config(yaml.safe_load(path.read_text())).train.volumes


def test_the_sample_configuration_differs_from_the_defaults_only() -> None:
    defaults = load_config(BASE).model_dump(mode="json")
    for section, values in SAMPLE.items():
        if section not in ("volumes", "evaluate"):
            same = [key for key, value in values.items() if value == defaults[section].get(key)]
            assert same in ([], ["volumes"]), f"{section}: {same} are the defaults"


def test_a_frozen_default_is_shared_safely() -> None:
    assert TrainConfig().augment == load_config(BASE).train.augment


def test_others_results_are_watched_like_every_input_of_a_volume_that_is_scored() -> None:
    values = changed(volumes__train__compare={"peer": "c.h5:/ids"}, evaluate__volumes=["train"])
    assert source_files(load_config(values))["volumes.train.compare.peer"] == Path("c.h5")
    assert "volumes.train.compare.peer" not in source_files(
        load_config(changed(volumes__train__compare={"peer": "c.h5:/ids"}))
    )


def test_skeletons_are_watched_as_others_results_are() -> None:
    values = changed(volumes__train__skeletons={"files": "true"}, evaluate__volumes=["train"])
    assert source_files(load_config(values))["volumes.train.skeletons.files"] == Path("true")
    values = changed(volumes__train__skeletons={"files": "true"})
    assert "volumes.train.skeletons.files" not in source_files(load_config(values))


@pytest.mark.parametrize(
    ("skeletons", "message"),
    [
        (
            {"files": "true", "unit": 1},
            r"volumes\.train\.skeletons\.unit: unknown key; did you mean unit_nm\? allowed",
        ),
        ({"files": "true", "unit_nm": 0}, r"volumes\.train\.skeletons\.unit_nm: got 0; .*greater than 0"),
        ({"files": "s3://bucket/true"}, r"volumes\.train\.skeletons\.files: skeletons are read from a file system"),
    ],
)
def test_what_is_wrong_with_skeletons_is_told_by_key(skeletons: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(changed(volumes__train__skeletons=skeletons))


def test_what_segmentation_implies() -> None:
    components = load_config(BASE).segment
    assert (components.sections_alone, components.has_graph, components.main_class) == (True, False, None)
    watershed = load_config(changed(segment__method="watershed")).segment
    assert (watershed.sections_alone, watershed.has_graph) == (False, True)
    assert load_config(changed(segment={"method": "watershed", "max_section_gap": None})).segment.sections_alone
    assert load_config(changed(segment__fill_holes=9)).segment.has_graph


@pytest.mark.parametrize(
    ("changes", "share"),
    [
        ({}, 0.15),
        ({"segment": {"threshold": "auto"}}, 0.15),
        ({"evaluate": {"threshold_volumes": []}}, 0.0),
        ({"segment": {"threshold": "auto"}, "train": {"held_back": 0}}, 0.0),
        ({"train": {"held_back": 0.3}}, 0.3),
        ({"segment": {"threshold": "auto"}, "model": {"checkpoint": "model.pt"}}, 0.0),
        ({"segment": {"threshold": "auto"}, "evaluate": {"threshold_volumes": ["other"]}}, 0.0),
    ],
)
def test_sections_are_held_back_in_volumes_that_choose_thresholds(changes: dict[str, Any], share: float) -> None:
    volume = {"raw": "raw.tif", "labels": "labels.tif", "voxel_size_nm": [50, 4, 4]}
    chosen_on = {"evaluate": {"threshold_volumes": ["train"]}}
    both = {"volumes": {"train": volume, "other": volume}, "predict": {"volumes": ["train", "other"]}}
    config = load_config({**both, **chosen_on, **changes})
    assert config.held_back_share("train") == share
    assert config.held_back_share("other") == 0


def test_an_unknown_volume_to_score_is_named() -> None:
    with pytest.raises(ConfigError, match=r"evaluate.volumes: no volume is called 'tain'"):
        load_config(changed(evaluate__volumes=["tain"]))


def test_objects_are_chosen_in_predicted_volumes_alone() -> None:
    for section in ("meshes", "skeletons"):
        with pytest.raises(ConfigError, match=rf"{section}.ids: volume 'other' is not in predict.volumes"):
            load_config(changed(**{f"{section}__ids": {"other": [1]}}))


def test_what_lies_inside_is_a_file_of_a_predicted_volume() -> None:
    values = changed(volumes__train__inside={"vesicles": "v.h5:/ids"}, predict__volumes=["train"])
    assert source_files(load_config(values))["volumes.train.inside.vesicles"] == Path("v.h5")
    with pytest.raises(ConfigError, match="inside"):
        load_config(changed(volumes__train__inside={"a/b": "v.h5"}))
