"""The arrays that are compared in each block: truth, our segmentation, and reference segmentations of others."""

from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np

from unet.config.label_kinds import UNLABELLED
from unet.config.source import SourceConfig
from unet.config.volumes import VolumeConfig
from unet.evaluation.expected_run_length import ExpectedRunLength
from unet.evaluation.object_metrics import CREMI_BORDER_NM, ObjectScores, border_mask
from unet.evaluation.skeletons import PlacedSkeletons, place_in_volume, read_skeletons
from unet.geometry.box import Box
from unet.volumes.block_reader import BlockReader
from unet.volumes.layout import VolumeLayout
from unet.volumes.sources import open_in_volume
from unet.volumes.volume import Volume, padded_in_section


def true_skeletons(config: VolumeConfig, layout: VolumeLayout) -> PlacedSkeletons | None:
    """Return the skeletons of the true neurons in a volume; None where the configuration names none."""
    if config.skeletons is None:
        return None
    found = read_skeletons(Path(config.skeletons.files), config.skeletons.unit_nm)
    return place_in_volume(found, layout.shape, layout.voxel_size_nm, layout.offset_nm)


@dataclass
class ComparedBlock:
    """The arrays of one block that are compared, `(z, y, x)` each.

    Attributes
    ----------
    box : the block's voxels in the volume
    target : uint8, class targets; 255 = unlabelled
    labels : true ids; 0 = not scored
    segmentation : our ids; 0 = no object
    near_border : bool, see `unet.evaluation.object_metrics.border_mask`
    """

    box: Box
    target: np.ndarray
    labels: np.ndarray
    segmentation: np.ndarray
    near_border: np.ndarray

    @classmethod
    def read(cls, source: Volume, box: Box) -> "ComparedBlock":
        """Read a block from the stores; the voxels around it are read too, to find true borders there."""
        px = CREMI_BORDER_NM / source.layout.voxel_size_nm[2]
        padded, inner = padded_in_section(box, ceil(px) + 2, source.layout.shape)
        labels = source.true_ids(padded)
        near_border = border_mask(labels, px)[inner]
        target = source.class_targets(box)
        scored = np.where(target == UNLABELLED, 0, labels[inner])  # outside the tissue there is nothing to find either
        return cls(box, target, scored, source.image("segmentation").read(box), near_border)


@dataclass
class ReferenceSegmentation:
    """A segmentation of the volume that somebody else made, and its counts.

    Attributes
    ----------
    reader : reads the segmentation
    whole : scores of the segmentation over all voxels
    labelled : scores of the segmentation over the voxels that it labels
    ours : scores of our segmentation over the same voxels
    run_length : expected run length of the segmentation; None without skeletons
    """

    reader: BlockReader
    whole: ObjectScores
    labelled: ObjectScores
    ours: ObjectScores
    run_length: ExpectedRunLength | None

    @classmethod
    def open(
        cls, given: SourceConfig, config: VolumeConfig, skeletons: PlacedSkeletons | None, volume: Volume
    ) -> "ReferenceSegmentation":
        """Open the segmentation of a volume that somebody else made, with no block counted yet."""
        reader = BlockReader(open_in_volume(config, given), volume.folder)
        run_length = ExpectedRunLength(skeletons) if skeletons else None
        return cls(reader, ObjectScores.empty(), ObjectScores.empty(), ObjectScores.empty(), run_length)

    def add(self, block: ComparedBlock) -> None:
        """Add the counts of a block."""
        ids = self.reader.read(block.box)
        annotated = block.target != UNLABELLED
        is_labelled = ids != 0
        truth = np.where(is_labelled, block.labels, 0)
        self.whole.add(block.labels, ids, block.near_border, annotated)
        self.labelled.add(truth, ids, block.near_border, annotated & is_labelled)
        self.ours.add(truth, block.segmentation, block.near_border, annotated & is_labelled)
        if self.run_length:
            self.run_length.add(block.box, ids)

    def scores(self) -> dict[str, Any]:
        """Return the scores over all voxels, the share of true voxels that are labelled, and both scores there."""
        share = self.labelled.overlap.voxels / max(self.whole.overlap.voxels, 1)
        restricted = {"theirs": self.labelled.scores(), "ours": self.ours.scores()}
        scores = {**self.whole.scores(), **(self.run_length.scores() if self.run_length else {})}
        return {"scores": scores, "labelled_share": share, "where_labelled": restricted}
