"""Label the fragments of every block of a block range.

Inputs: `probability.zarr`, or `classes.zarr` for annotated classes; the receipt of the rule that chose the settings.

Outputs: blocks of `{store}-fragments.zarr`, one table of fragments per block; a receipt and a journal per block range.

1. Threshold the probability of the foreground class, or the interior that affinities give.
2. Label connected components (`method: components`), or the basins of the watershed, read with their halo.
3. Write labels and table. `merge` joins fragments across blocks.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from numpy.typing import NDArray

from unet.config.segment import SegmentConfig
from unet.geometry.box import Box, Index
from unet.jobs.blockwise import BlockOutput, digest_of_block
from unet.jobs.script import run_script
from unet.segmentation.components import BlockComponents, label_block
from unet.segmentation.foreground import (
    channel_of,
    class_values,
    foreground,
    foreground_probability,
    foreground_read_box,
)
from unet.segmentation.fragments import save_block_table
from unet.segmentation.volume_fragments import VolumeFragments
from unet.storage.files import read_json
from unet.volumes.block_inputs import BlockInputs
from unet.volumes.block_step import BlockStep
from unet.volumes.volume import Volume


def main(
    survey: Path,
    made: list[Path],
    receipt: Path,
    folder: Path,
    block_range: str,
    store: Literal["segmentation", "labels"],
    segment: SegmentConfig,
    background: bool,
    code: str,
    threshold: Path | None = None,
    decoder: Path | None = None,
    threads: int = 1,
) -> None:
    """Write `{store}-fragments.zarr` and one table per block.

    `threshold` is the receipt of `choose_threshold`, `decoder` that of `choose_decoder`.
    """
    source, given = Volume.open(folder, survey), segment.model_fields_set - {"threshold"}
    if decoder is not None:
        segment = segment.decoded_by(read_json(decoder)["settings"])
    fragments = source.create(f"{store}-fragments", "uint32", kind="label", pyramid=False)
    chosen = float(segment.threshold) if threshold is None else float(read_json(threshold)["best"]["threshold"])
    labelled = "classes" if store == "labels" else "probability"
    basins = VolumeFragments.of(source, segment, chosen) if segment.method == "watershed" else None
    tables, channels = source.fragment_tables(store), source.image(labelled).spec.channels
    components_of = _labelling(channels, labelled, source.layout.shape, segment, chosen, background)
    fragments_of = components_of if basins is None else basins.label

    def label(box: Box) -> BlockOutput:
        found = fragments_of(box, step.read(labelled, box))
        save_block_table(tables.of(box), found)
        fragments.write_block(box, found.labels)
        return str(digest_of_block([fragments, tables], box)), {"fragments": len(found)}

    def read_box(box: Box) -> Box:
        return foreground_read_box(box, channels, segment.axes) if basins is None else basins.read_box(box)

    def tissue_of(box: Box, inputs: BlockInputs) -> list[Any]:
        return [] if basins is None else inputs.tissue_mask_digests(basins.foreground_box(box))

    step = BlockStep("segment", source, {labelled: read_box}, [fragments, tables], tissue_of)
    settings = segment.model_dump(mode="json", include=given)
    parts = {"threshold": chosen, "segment": settings, "background": background, "code": code}
    step.run(label, block_range, receipt, threads, **parts)


def _labelling(
    channels: Sequence[str], labelled: str, shape: Index, segment: SegmentConfig, threshold: float, background: bool
) -> Callable[[Box, NDArray[Any]], BlockComponents]:
    """Return the function that labels the connected components of a block, from the voxels that are read for it."""
    if labelled == "classes":
        return lambda box, stored: label_block(stored, box, shape, "section")

    def components(box: Box, stored: NDArray[Any]) -> BlockComponents:
        if len(segment.classes) == 1:
            found = foreground_probability(stored, channels, box, shape, segment.main_class, segment.axes)
            values = foreground(found, threshold)
        else:
            values = class_values(stored[[channel_of(name, channels) for name in segment.classes]], threshold)
        return label_block(values, box, shape, segment.connectivity, background)

    return components


if __name__ == "__main__":
    run_script(main, globals().get("snakemake"))
