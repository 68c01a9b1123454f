"""Find the faces of the voxels at the surface of chosen objects, in the blocks of a block range.

Inputs: `segmentation.zarr`, the merge table.

Outputs: a table of faces per block; a receipt and a journal per block range.

1. Choose the objects: those that `meshes.ids` names, or the largest.
2. Read each block with one plane behind its upper faces.
3. Find the faces between voxels of these objects and others. The faces of the volume close what it cuts.
"""

from pathlib import Path

import numpy as np

from unet.config.meshes import MeshesConfig
from unet.geometry.box import Box
from unet.jobs.blockwise import BlockOutput
from unet.jobs.script import run_script
from unet.measurement.block_measures import read_ahead
from unet.measurement.chosen_objects import chosen_ids
from unet.measurement.surface_faces import block_faces
from unet.segmentation.merge_table import load_merge_table
from unet.storage.files import save_arrays
from unet.volumes.block_step import BlockStep
from unet.volumes.volume import Volume


def main(
    survey: Path, receipt: Path, folder: Path, block_range: str, meshes: MeshesConfig, code: str, threads: int = 1
) -> None:
    """Write a table of faces per block, beside the block's table of fragments."""
    source = Volume.open(folder, survey)
    tables, shape, merged = (
        source.face_tables("segmentation"),
        source.layout.shape,
        load_merge_table(source.merge_table("segmentation"), checked=["sizes"]),
    )
    key = f"meshes.ids.{source.name}"
    ids = sorted(chosen_ids(key, merged.sizes, merged.first_id, meshes.ids.get(source.name), meshes.largest))
    chosen = np.array(ids, np.uint64)

    def find(box: Box) -> BlockOutput:
        labels = step.read("segmentation", box)
        faces = block_faces(labels, box, shape, chosen.astype(labels.dtype))
        save_arrays(tables.of(box), vars(faces))
        return str(tables.digest(box)), {"faces": len(faces)}

    step = BlockStep("surface_faces", source, {"segmentation": lambda box: read_ahead(box, shape)}, [tables])
    step.run(find, block_range, receipt, threads, ids=ids, code=code)


if __name__ == "__main__":
    run_script(main, globals().get("snakemake"))
