"""A key that is set and that nothing reads is named, with the key that it depends on; no other key is."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from unet.config.root import load_config
from unet.config.unused_keys import learnt_volumes, unused_keys

ROOT = Path(__file__).parents[3]
TRAIN = {"raw": "a.tif", "labels": "b.tif"}
INTERIOR = {**TRAIN, "label_kind": "interior"}


def told(volume: dict[str, Any] = TRAIN, others: dict[str, Any] | None = None, **sections: Any) -> list[str]:
    """Return the warnings about a configuration with volume `train`."""
    return unused_keys(load_config({"volumes": {"train": volume, **(others or {})}, **sections}))


def test_nothing_is_told_of_the_defaults_nor_of_defaults_that_are_written_out() -> None:
    assert told() == []
    merged = load_config({"volumes": {"train": TRAIN}}).model_dump(mode="json")
    assert unused_keys(load_config(merged)) == []


@pytest.mark.parametrize("path", sorted((ROOT / "config").rglob("*.yaml")), ids=lambda path: path.name)
def test_the_configurations_of_the_repository_set_nothing_in_vain(path: Path) -> None:
    assert unused_keys(load_config(yaml.safe_load(path.read_text()))) == []


@pytest.mark.parametrize(
    ("first", "second", "shared"),
    [
        ({}, {}, True),
        ({"sections": [0, 20]}, {"sections": [19, 30]}, True),
        ({"sections": [0, 20]}, {"sections": [20, 30]}, False),
        ({"sections": [0, 20]}, {"crop": [[0, 9], [0, 64], [0, 64]]}, True),
        ({"crop": [[0, 9], [0, 64], [0, 64]]}, {"crop": [[0, 9], [0, 64], [64, 128]]}, False),
        ({}, {"raw": "c.tif"}, False),
        ({}, {"raw": "x/../a.tif"}, True),
    ],
)
@pytest.mark.parametrize("key", ["evaluate", "validation"])
def test_a_scored_volume_with_voxels_of_a_training_volume_is_told(
    first: dict[str, Any], second: dict[str, Any], shared: bool, key: str
) -> None:
    used = {"train": {"volumes": ["train"]}, "evaluate": {"volumes": ["train"]}, "predict": {"volumes": ["train"]}}
    if key == "validation":
        used["train"]["validation"] = ["test"]
    else:
        used["evaluate"]["volumes"] = used["predict"]["volumes"] = ["train", "test"]
    found = told({**TRAIN, **first}, {"test": {**TRAIN, **second}}, **used)
    assert len(found) == int(shared)
    assert all(
        "volumes 'test' and 'train' hold voxels of the same file" in one and "'test' is scored" in one for one in found
    )
    volumes = {"train": {**TRAIN, **first}, "test": {**TRAIN, **second}}
    learnt = learnt_volumes(load_config({"volumes": volumes, **used}))
    assert learnt == (["train", "test"] if shared else ["train"])
    given = told({**TRAIN, **first}, {"test": {**TRAIN, **second}}, **used, model={"checkpoint": "m.pt"})
    assert not any("voxels of the same file" in one for one in given)


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        (
            {"model": {"checkpoint": "m.pt"}, "train": {"steps": 9}},
            ["model.checkpoint is m.pt", "no training", "keys of train have"],
        ),
        ({"model": {"checkpoint": "m.pt"}, "weights": {"w0": 0}}, ["model.checkpoint is m.pt", "keys of weights have"]),
        ({"train": {"optimizer": "adamw", "momentum": 0.9}}, ["train.momentum is 0.9", "train.optimizer: adamw"]),
        ({"train": {"validation_crops": 9}}, ["train.validation_crops is 9", "train.validation: []"]),
        (
            {"train": {"augment": {"elastic_probability": 0, "elastic_px": 5}}},
            ["train.augment.elastic_px is 5.0", "train.augment.elastic_probability: 0"],
        ),
        ({"train": {"augment": {"contrast_shift_std": 1}}}, ["contrast_shift_std is 1.0", "contrast_shift: 0"]),
        (
            {"train": {"validation": ["train"]}},
            ["train.validation: volume 'train' is in train.volumes, too", "another"],
        ),
        ({"weights": {"w0": 0, "sigma": 3}}, ["weights.sigma is 3.0", "weights.w0: 0"]),
        ({"volume": INTERIOR, "weights": {"separation_border": 2}}, ["separation_border is 2", "instances only"]),
        (
            {"segment": {"max_offset_px": 3}},
            ["segment.max_offset_px is 3", "agglomerate.method: average_linkage or mutex_watershed"],
        ),
        (
            {
                "model": {"output": "affinities"},
                "segment": {
                    "method": "watershed",
                    "agglomerate": {"method": "average_linkage", "size_mismatch_penalty": 1},
                },
            },
            ["segment.agglomerate.size_mismatch_penalty is 1.0", "agglomerate.method: average_linkage"],
        ),
        (
            {"segment": {"max_section_gap": 2}},
            ["segment.max_section_gap is 2", "watershed and segment.connectivity: sec"],
        ),
        (
            {"segment": {"method": "watershed", "connectivity": "volume", "agglomerate": {"size_mismatch_penalty": 1}}},
            ["segment.agglomerate.size_mismatch_penalty is 1.0", "connectivity: section"],
        ),
        ({"model": {"architecture": "fcn8s", "skip": "add"}}, ["model.skip is add", "model.architecture: fcn8s"]),
        ({"train": {"volume_weights": {"train": 2}}}, ["train.volume_weights are {'train': 2.0}", "one volume"]),
        ({"slurm": {"partition": "gpu", "workers": 2}}, ["slurm.workers, slurm.partition", "predict.workers: slurm"]),
        ({"others": {"spare": TRAIN}}, ["volumes.spare is in no list"]),
        (
            {"volume": {**TRAIN, "compare": {"peer": "c.tif"}}},
            ["volumes.train: compare have no effect", "evaluate"],
        ),
        (
            {"others": {"new": {"raw": "c.tif", "label_kind": "interior"}}, "predict": {"volumes": ["new"]}},
            ["volumes.new: label_kind have no effect without labels"],
        ),
    ],
    ids=str,
)
def test_each_key_in_vain_is_named_with_what_it_depends_on(sections: dict[str, Any], words: list[str]) -> None:
    [sentence] = told(sections.pop("volume", TRAIN), sections.pop("others", None), **sections)
    for word in words:
        assert word in sentence, sentence


def test_keys_that_have_an_effect_are_not_told() -> None:
    chosen = {"train": {"optimizer": "sgd", "momentum": 0.9, "validation": ["other"], "validation_crops": 9}}
    watershed = {"segment": {"method": "watershed", "max_section_gap": 2, "agglomerate": {"size_mismatch_penalty": 1}}}
    assert told(others={"other": {"raw": "c.tif", "labels": "d.tif"}}, **chosen, **watershed) == []
    workers = {"predict": {"workers": "slurm"}, "slurm": {"workers": 2}, "weights": {"separation_border": 2}}
    assert told(**workers) == []
