"""The methods paragraph: it says what the configuration says, and lists what it cites."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from unet.config.root import Config
from unet.config.segment import SegmentConfig
from unet.run.report.citations import WORKS
from unet.run.report.methods_section import RunRecords, methods

EXAMPLES = Path(__file__).parents[4] / "config"
FILES = [EXAMPLES / "config.yaml", *sorted((EXAMPLES / "examples").glob("*.yaml"))]
VERSIONS = {"unet-em": "0.1.0", "snakemake": "9.27.1", "torch": "2.13.0", "zarr": "3.1.0"}


def config_of(**sections: Any) -> Config:
    """A small configuration of one training volume."""
    volume = {"raw": "raw.tif", "labels": "labels.tif", "label_kind": "instances", "voxel_size_nm": [40, 4, 4]}
    return Config(volumes={"train": volume, "test": volume}, **sections)


def records_of(config: Config, **more: Any) -> RunRecords:
    """Records of a run of it."""
    volumes = {"train": ((8, 512, 512), (40.0, 4.0, 4.0))}
    return RunRecords(VERSIONS, volumes, config.segment, **more)


def test_the_paragraph_of_the_paper_s_settings() -> None:
    config = config_of(evaluate={"volumes": ["train"]})
    found = methods(config, records_of(config, steps=20_000, threshold=0.5, scores={"train": {}}))
    assert found.paragraph == (
        "Volumes (z × y × x): train (8 × 512 × 512 voxels of 40 × 4 × 4 nm). Intensities of each volume were "
        "normalised to mean 0 and standard deviation 1, constant regions left out. A 2-D U-Net (Ronneberger "
        "et al., 2015) with 5 resolution levels and 64 channels at the first one, unpadded convolutions and "
        "dropout of 0.5 in the two deepest levels of the contracting path predicted the probability of "
        "membrane and interior per voxel. It was trained on train for 20,000 steps of 1 patch of 572 px by "
        "SGD with momentum 0.99. The learning rate was 0.001 after 100 steps of warm-up and fell to 0 along "
        "half a cosine; gradients were clipped to a norm of 1. The loss was the cross-entropy with the border "
        "weight of the U-Net paper (equation 2, w0 = 5, sigma = 5 px). Patches were augmented at random: "
        "flips, rotations by any angle, elastic deformation within the section (100% of the patches, 10 px), "
        "brightness (SD 0.2), contrast (SD 0.2 of log2 of the gain) and Gaussian noise (SD up to 0.1). "
        "Volumes were predicted by overlapping tiles, whose cut does not change the result. Objects are "
        "connected components in each section of the voxels above 0.5. Objects were scored on train (learnt "
        "from) by adapted Rand error and V_rand (Arganda-Carreras et al., 2015), variation of information "
        "(Meila, 2007) and average precision (Caicedo et al., 2019). All steps ran in unet-em 0.1.0 with "
        "Snakemake 9.27.1 (Mölder et al., 2021), PyTorch 2.13.0 (Paszke et al., 2019) and zarr 3.1.0."
    )


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_all_that_is_cited_is_listed_and_nothing_else(path: Path) -> None:
    config = Config(**yaml.safe_load(path.read_text()))
    scores = {name: {"erl_nm": 1.0} for name in config.evaluate.volumes}
    found = methods(config, records_of(config, threshold=0.5, scores=scores))
    cited = set(re.findall(r"[A-ZÀ-Ž][\w-]+(?: et al\.| and \w+)?, \d{4}", found.paragraph))
    listed = {work.short for work in WORKS.values() if work.entry in found.references}
    assert cited == listed
    assert len(found.references) == len(set(found.references))
    assert all("doi:10." in one for one in found.references)
    assert "None" not in found.paragraph
    assert "auto" not in found.paragraph.replace("automated", "")


CHANGES = [
    ({"model": {"dropout": 0}}, "dropout", False),
    ({"model": {"normalisation": "batch"}}, "batch normalisation (Ioffe and Szegedy, 2015)", True),
    ({"model": {"block": "residual"}}, "residual blocks (He et al., 2016)", True),
    ({"model": {"architecture": "fcn8s"}}, "2-D FCN-8s (Long et al., 2015; Ronneberger et al., 2015)", True),
    ({"model": {"convolution": "same"}, "train": {"tile": 256}}, "zero-padded", True),
    ({"model": {"context_sections": 1}}, "1 neighbouring sections on each side", True),
    (
        {"model": {"output": "affinities"}, "segment": {"method": "watershed"}},
        "joined by average linkage of their affinities (Bailoni et al., 2022)",
        True,
    ),
    ({"weights": {"w0": 0}}, "The loss was the cross-entropy.", True),
    ({"weights": {"class_balance": True}}, "classes balanced by their inverse frequency", True),
    ({"train": {"optimizer": "adamw", "weight_decay": 0.01}}, "(Loshchilov and Hutter, 2019), weight decay 0.01", True),
    ({"train": {"weight_average": 0.999}}, "(decay 0.999) (Polyak and Juditsky, 1992)", True),
    ({"train": {"validation": ["test"]}}, "best score on test were kept (step 7)", True),
    ({"train": {"held_back": 0.25}}, "left out 25 % of the annotated sections of train", True),
    ({"train": {"augment": {"elastic_px": 0}}}, "elastic", False),
    ({"train": {"augment": {"elastic_probability": 0}}}, "elastic", False),
    ({"predict": {"test_time_augmentation": "rotations"}}, "averaged over 7 rotations", True),
    ({"normalisation": {"percentiles": [1, 99]}}, "Percentiles 1 and 99 of the intensities", True),
    ({"normalisation": {"ignore_value": 0}}, "voxels of value 0.0 left out", True),
    ({"segment": {"min_size": 50}}, "fewer than 50 voxels were dropped", True),
    ({"segment": {"method": "watershed"}}, "the mean boundary probability of a contact, threshold 0.3.", True),
    (
        {"segment": {"method": "watershed", "agglomerate": {"method": "multicut"}}},
        "multicut of the mean boundary probabilities (Keuper et al., 2015), threshold 0.3.",
        True,
    ),
    ({"segment": {"method": "watershed", "agglomerate": {"method": "none"}}}, "joined", False),
    ({"segment": {"threshold": "auto"}, "evaluate": {"threshold_volumes": ["train"]}}, "chosen on train.", True),
]


@pytest.mark.parametrize(("sections", "words", "said"), CHANGES)
def test_a_setting_changes_the_words(sections: dict[str, Any], words: str, said: bool) -> None:
    config = config_of(**sections)
    numbers = {"threshold": 0.5, "agglomeration_threshold": 0.3, "kept_step": 7}
    assert (words in methods(config, records_of(config, **numbers)).paragraph) is said
    default = config_of()
    assert not (said and words in methods(default, records_of(default, **numbers)).paragraph)


def test_a_given_network_is_named_and_no_training_is_told() -> None:
    config = config_of(model={"checkpoint": "/home/somebody/membranes.pt"})
    found = methods(config, records_of(config)).paragraph
    assert "trained before (membranes.pt)" in found
    assert "somebody" not in found
    assert "cross-entropy" not in found
    assert "augmented" not in found


def test_what_was_chosen_is_told_and_not_what_was_asked_for() -> None:
    config = config_of(segment={"method": "watershed", "decoder": "auto"}, evaluate={"threshold_volumes": ["train"]})
    chosen = SegmentConfig(method="watershed", agglomerate={"join_fragments_below": 500})
    records = replace(records_of(config, agglomeration_threshold=0.35), segment=chosen)
    found = methods(config, records).paragraph
    assert "threshold 0.35." in found
    assert "fewer than 500 voxels were joined" in found
