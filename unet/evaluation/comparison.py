"""What is compared of each block of a volume: the truth, ours, and others' segmentations in files of their own."""

from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np

from unet.config.label_kinds import UNLABELLED
from unet.config.volumes import VolumeConfig
from unet.evaluation.expected_run_length import RunLength
from unet.evaluation.object_metrics import CREMI_BORDER_NM, ObjectScores, near_borders
from unet.evaluation.skeletons import PlacedSkeletons, placed, read_skeletons
from unet.geometry.box import Box
from unet.volumes.readers.open import Source, SourceError, check_annotation, open_raw, open_source
from unet.volumes.volume import Volume, VolumeLayout, padded_in_section


def true_ids(source: Volume, box: Box, ignore_id: int | None) -> np.ndarray:
    """Labels of a box, 0 where nobody has annotated."""
    labels = source.image("labels").read(box)
    return np.where(labels == ignore_id, 0, labels) if ignore_id else labels


def true_skeletons(config: VolumeConfig, layout: VolumeLayout) -> PlacedSkeletons | None:
    """The true neurons in a volume; None where it has none."""
    if config.skeletons is None:
        return None
    found = read_skeletons(Path(config.skeletons.files), config.skeletons.unit_nm)
    return placed(found, layout.shape, layout.voxel_size_nm, layout.offset_nm)


@dataclass
class Block:
    """What is compared of a block, `(z, y, x)`."""

    box: Box
    target: np.ndarray
    labels: np.ndarray
    segmentation: np.ndarray
    near: np.ndarray

    @classmethod
    def read(cls, source: Volume, box: Box, ignore_id: int | None) -> "Block":
        """A block of the stores; borders are seen with what lies around it."""
        px = CREMI_BORDER_NM / source.layout.voxel_size_nm[2]
        window, inner = padded_in_section(box, ceil(px) + 2, source.layout.shape)
        labels = true_ids(source, window, ignore_id)
        near = near_borders(labels, px)[inner]
        target = source.image("targets").read(box)
        scored = np.where(target == UNLABELLED, 0, labels[inner])  # nor is there anything to find outside the tissue
        return cls(box, target, scored, source.image("segmentation").read(box), near)


def open_peer(address: str, config: VolumeConfig) -> Source:
    """Open somebody else's segmentation of a volume.

    Raises
    ------
    SourceError
        If it does not lie on the same voxels, or holds no ids.
    """
    found = open_source(address)
    check_annotation(open_raw(config.raw), found, config.sections, config.voxel_size_nm)
    if found.dtype.kind == "f":
        raise SourceError(
            f"{address}: dtype {found.dtype.name}, but a segmentation holds ids, which are integers; give the ids "
            "instead of probabilities, or convert them"
        )
    return found


@dataclass
class ReferenceSegmentation:
    """Somebody else's segmentation of the volume; its scores over all voxels, and where it says something."""

    source: Source
    first: tuple[int, int, int]
    whole: ObjectScores
    labelled: ObjectScores
    ours: ObjectScores
    runs: RunLength | None

    @classmethod
    def open(cls, address: str, config: VolumeConfig, skeletons: PlacedSkeletons | None) -> "ReferenceSegmentation":
        """Open it as `open_peer` does."""
        found = open_peer(address, config)
        first = (config.sections[0] if config.sections else 0, 0, 0)
        runs = RunLength(skeletons) if skeletons else None
        return cls(found, first, ObjectScores.empty(), ObjectScores.empty(), ObjectScores.empty(), runs)

    def add(self, block: Block) -> None:
        """Add a block."""
        ids = self.source.read(block.box.shifted(self.first))
        known = block.target != UNLABELLED
        says = ids != 0
        truth = np.where(says, block.labels, 0)
        self.whole.add(block.labels, ids, block.near, known)
        self.labelled.add(truth, ids, block.near, known & says)
        self.ours.add(truth, block.segmentation, block.near, known & says)
        if self.runs:
            self.runs.add(block.box, ids)

    def scores(self) -> dict[str, Any]:
        """Over all voxels; where it labels, its own and ours; and the share of the true voxels that it labels."""
        share = self.labelled.table.voxels / max(self.whole.table.voxels, 1)
        restricted = {"theirs": self.labelled.scores(), "ours": self.ours.scores()}
        scores = {**self.whole.scores(), **(self.runs.scores() if self.runs else {})}
        return {"scores": scores, "labelled_share": share, "where_labelled": restricted}
