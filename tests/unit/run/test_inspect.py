"""The command: a configuration on standard output that is valid and says why, and everything else on standard error."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import yaml

from unet.config.root import Config, load_config
from unet.config.source import SourceConfig
from unet.geometry.box import Box
from unet.run import inspect
from unet.run.inspection.annotated_sections import AnnotatedSections, split_sections
from unet.run.inspection.commented_yaml import commented_yaml
from unet.run.inspection.estimated_time import EstimatedRun, fitted
from unet.run.inspection.hardware import NETWORKS_OF_CPU, NETWORKS_OF_GPU, Hardware, networks_for
from unet.run.inspection.label_guess import LabelGuess
from unet.run.inspection.suggested_settings import Effort, Inputs, VoxelSize, suggest
from unet.run.plan.calibration import Speeds
from unet.run.plan.plan import ComputeResources, RunPlan
from unet.run.plan.resources import RulePlan
from unet.training.synthetic import synthesise

CPU = Hardware(4, 16e9)
THICK, CUBES = VoxelSize((50.0, 4.0, 4.0), "as said", True), VoxelSize((8.0, 8.0, 8.0), "from the file", False)


def inputs(sections: int = 24, of: int = 24, kind: Any = "instances", size: VoxelSize = THICK, **more: Any) -> Inputs:
    """A volume of `of` sections of 512 x 512 px, of which the first are annotated."""
    guess = LabelGuess(kind, "many ids", foreground=more.pop("foreground", 0.8), **more.pop("guess", {}))
    split = split_sections(AnnotatedSections(((0, sections),), of, of))
    labels, raw = SourceConfig(path="labels.tif"), SourceConfig(path="raw.tif")
    return Inputs(raw, (of, 512, 512), size, labels=labels, guess=guess, split=split, **more)


def planned(step: float = 0.1, others: float = 60.0, unlabelled: float = 0.0) -> Any:
    """A planner for a machine that takes so many seconds per step, for all else, and for a volume `all`."""

    def plan(config: Config, threads: int) -> RunPlan:
        speeds = Speeds({}, (step * config.model.base_channels / 16, 0), (0, 0), 1.0, "told")
        training = speeds.step[0] * config.train.steps
        seconds = others + training + unlabelled * ("all" in config.predict.volumes)
        rules = [RulePlan("train", 1, seconds - 0.52, 0, 0, 0, 0, 1)]
        return RunPlan([], rules, [], 0, ComputeResources(threads, 0, "cpu", threads), speeds, 0)

    return plan


def settings(given: Inputs, hardware: Hardware = CPU, **effort: Any) -> dict[str, Any]:
    """The settings of a configuration; they are valid."""
    chosen = Effort(networks_for(hardware)[0], 400, **effort)
    found = suggest(given, hardware, chosen, "results-raw").settings
    load_config(found)
    return found


# Settings


def test_many_annotated_sections_train_validate_and_test() -> None:
    found = settings(inputs())
    assert {name: volume["sections"] for name, volume in found["volumes"].items()} == {
        "train": [0, 18],
        "validation": [18, 20],
        "test": [20, 24],
    }
    assert found["train"]["validation"] == ["validation"]
    assert found["evaluate"] == {"volumes": ["train", "test"], "threshold_volumes": ["train"]}
    assert found["predict"]["volumes"] == ["train", "validation", "test"]


def test_a_few_annotated_sections_of_many_all_train_and_all_sections_are_segmented() -> None:
    found = settings(inputs(sections=3, of=100))
    assert list(found["volumes"]) == ["train", "all"]
    assert "labels" not in found["volumes"]["all"]
    assert "validation" not in found["train"]
    assert found["predict"]["volumes"] == ["train", "all"]
    assert settings(inputs(3, 100), segment_unlabelled=False)["predict"]["volumes"] == ["train"]


def test_labels_of_a_small_part_are_cropped_with_context() -> None:
    covered = Box((0, 200, 100), (3, 260, 160))
    found = settings(inputs(3, 100, covered=covered))
    assert found["volumes"]["train"]["crop"] == [[0, 3], [72, 388], [0, 288]]
    assert "sections" not in found["volumes"]["train"]


@pytest.mark.parametrize(
    ("given", "segment"),
    [
        (inputs(), {"method": "watershed", "connectivity": "section", "agglomerate": {"threshold": "auto"}}),
        (inputs(size=CUBES), {"method": "watershed", "connectivity": "volume"}),
        (inputs(kind="interior"), {"method": "watershed", "connectivity": "section", "max_section_gap": None}),
        (inputs(foreground=0.2), {"method": "components", "threshold": "auto"}),
    ],
)
def test_the_segmentation_follows_from_voxel_size_and_labels(given: Inputs, segment: dict[str, Any]) -> None:
    assert settings(given)["segment"].items() >= segment.items()


def test_thin_blocks_become_deep_where_objects_are_found_in_3d() -> None:
    assert settings(inputs(of=100, size=CUBES))["storage"] == {"block": [64, 512, 512]}
    assert "storage" not in settings(inputs(of=100))


def test_classes_are_written_out() -> None:
    values = {"membrane": 1, "interior": 0}
    volume = settings(inputs(kind="classes", guess={"class_values": values}))["volumes"]["test"]
    assert (volume["label_kind"], volume["class_values"]) == ("classes", values)


@pytest.mark.parametrize(
    ("kind", "classes", "values", "written"),
    [
        ("instances", {}, (-1,), {"ignore_id": -1}),
        ("interior", {}, (-1, 7), {"ignore_id": [-1, 7]}),
        ("classes", {"a": 0, "b": 1}, (255,), {"class_values": {"a": 0, "b": 1, "ignore": 255}}),
    ],
)
def test_values_that_are_not_annotated_are_written(
    kind: str, classes: dict[str, int], values: tuple[int, ...], written: dict[str, Any]
) -> None:
    volume = settings(inputs(kind=kind, guess={"class_values": classes, "not_annotated": values}))["volumes"]["train"]
    assert {key: volume.get(key) for key in written} == written


def test_a_gpu_gets_a_larger_network() -> None:
    assert networks_for(CPU) == NETWORKS_OF_CPU
    assert networks_for(Hardware(8, 1e11, "H100", 8e10)) == NETWORKS_OF_GPU
    small = Hardware(8, 1e11, "T4", 1.5e10)
    assert settings(inputs(), small)["model"]["base_channels"] == 32
    assert "augment" not in settings(inputs(), small)["train"]


def test_with_a_given_model_nothing_is_trained() -> None:
    given = Inputs(SourceConfig(path="raw.tif"), (24, 512, 512), CUBES, model="model.pt")
    found = settings(given)
    assert found["model"] == {"checkpoint": "model.pt"}
    assert "train" not in found
    assert found["predict"]["volumes"] == ["all"]


# Time


@pytest.mark.parametrize(
    ("minutes", "step", "channels", "steps"),
    [
        (30, 0.1, 16, 1200),  # more would be made in (1800 - 60) / 0.1 s
        (2, 0.1, 16, 600),
        (2, 0.2, 8, 600),  # 300 steps of 16 channels are too few
        (1.5, 0.8, 8, 75),  # 37 of 16 channels, 75 of 8: of the smallest network
    ],
)
def test_network_and_steps_fit_the_time(minutes: float, step: float, channels: int, steps: int) -> None:
    found = fitted(inputs(sections=3, of=3), CPU, minutes, "results", planned(step))
    assert (found.config.model.base_channels, found.config.train.steps) == (channels, steps)
    assert found.seconds == pytest.approx(60 + steps * step * channels / 16, rel=0.01)
    assert found.seconds <= 60 * minutes


def test_what_has_no_labels_waits_where_it_takes_most_of_the_time() -> None:
    slow = fitted(inputs(3, 100), CPU, 30, "results", planned(unlabelled=7200))
    assert slow.left_out == ("all",)
    assert slow.config.predict.volumes == ["train"]
    assert slow.seconds < 1800
    fast = fitted(inputs(3, 100), CPU, 30, "results", planned(unlabelled=60))
    assert fast.left_out == ()
    assert fast.config.predict.volumes == ["train", "all"]


def test_more_time_than_asked_for_is_told() -> None:
    found = fitted(inputs(3, 3), CPU, 1, "results", planned(others=600))
    assert found.config.train.steps == NETWORKS_OF_CPU[-1].least_steps
    assert "WARNING: that is more than 1 minutes" in inspect.estimate_text(found, 1)


# The command


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two files in the working directory, and a machine that need not be measured."""
    raw, labels = synthesise(sections=6, size=96, seed=3)
    tifffile.imwrite(tmp_path / "my raw.tif", raw, photometric="minisblack")
    tifffile.imwrite(tmp_path / "labels.tif", labels.astype(np.uint16), photometric="minisblack")
    monkeypatch.chdir(tmp_path)

    def at_once(given: Inputs, hardware: Hardware, minutes: float, results: str) -> EstimatedRun:
        return fitted(given, hardware, minutes, results, planned())

    monkeypatch.setattr(inspect, "fitted", at_once)
    return tmp_path


def test_the_configuration_goes_to_standard_output_and_is_valid(files: Path, capsys: pytest.CaptureFixture) -> None:
    inspect.main(["my raw.tif", "labels.tif", "--voxel-size", "50", "4", "4", "--pictures", "seen"])
    printed = capsys.readouterr()
    config = load_config(yaml.safe_load(printed.out))
    assert config.volumes["train"].raw[0].path == "my raw.tif"
    assert config.results == "results-my_raw"
    assert config.train.steps == 1200
    assert "# Written by python -m unet.run.inspect 'my raw.tif' labels.tif --voxel-size 50 4 4" in printed.out
    for told in ("my raw.tif: raw (", "histogram", "kind        instances", "estimated time: ", "pictures: 9 in seen"):
        assert told in printed.err
    assert len(list(Path("seen").iterdir())) == 9


def test_every_chosen_value_has_a_reason(files: Path, capsys: pytest.CaptureFixture) -> None:
    inspect.main(["my raw.tif", "labels.tif"])
    lines = capsys.readouterr().out.splitlines()
    chosen = ("label_kind", "voxel_size_nm", "steps", "tile", "optimizer", "method", "threshold", "connectivity")
    for key in chosen:
        first = next(i for i, line in enumerate(lines) if re.match(rf" +{key}:", line))
        assert "# " in lines[first] or lines[first - 1].strip().startswith("#"), key
    assert max(map(len, lines)) <= 120


def test_a_path_that_cannot_be_read_ends_with_a_sentence(files: Path, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as ended:
        inspect.main(["my raw.tif", "none.tif"])
    assert "none.tif: there is no none.tif" in str(ended.value.code)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "my raw.tif: raw" in printed.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "give the paths of your image files"),
        (["{path: a.tif, axes: qq}"], "write each of the letters c, z, y and x at most once"),
    ],
)
def test_a_wrong_command_is_told(files: Path, capsys: pytest.CaptureFixture, words: list[str], told: str) -> None:
    with pytest.raises(SystemExit) as ended:
        inspect.main(words)
    assert told in f"{ended.value.code}{capsys.readouterr().err}"


def test_a_source_may_be_a_mapping(files: Path, capsys: pytest.CaptureFixture) -> None:
    inspect.main(["{path: my raw.tif, flip: [y]}", "labels.tif"])
    config = load_config(yaml.safe_load(capsys.readouterr().out))
    assert config.volumes["train"].raw[0] == SourceConfig(path="my raw.tif", flip=["y"])


def test_settings_that_a_problem_asks_for_are_shown_as_a_word_of_the_command() -> None:
    problem = "crop.tif: shape (3, 80, 100), but ...; say with `offset: [z, y, x]` at which voxel of raw it begins"
    [hint] = inspect.settings_hint(["nope.tif: there is no nope.tif", problem])
    word = hint.split("'")[1]
    assert inspect.given_sources(inspect._parser().parse_args([word]))[0][0].offset == (0, 0, 0)
    assert inspect.settings_hint(["nope.tif: there is no nope.tif"]) == []


def test_the_hint_has_the_value_that_a_problem_names() -> None:
    [hint] = inspect.settings_hint(["a.npy: ... Write at this source `axes: yxz` if the array is (y, x, z)"])
    assert "{path: PATH, axes: yxz}" in hint
    [hint] = inspect.settings_hint(["a.tif: RGB image; `channels: [0]` at this source takes one colour"])
    assert "{path: PATH, channels: [0]}" in hint
    assert inspect.settings_hint(["a.tif: axes t of 2; name each axis by `axes` at this source"]) == []


def test_values_are_quoted_where_yaml_needs_it() -> None:
    values = {"a": {"path: 1": "it's # no comment", "none": None, "list": [1, "x, y"]}, "text": "50"}
    text = commented_yaml(values, {"a": "above", "a.none": "behind", "text": "too long " * 15})
    assert yaml.safe_load(text) == values
    assert text.startswith("# above\na:\n")
