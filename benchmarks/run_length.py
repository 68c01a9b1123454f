"""Expected run length on fib25: the truth itself, FFN's published result, the published oversegmentation, a run.

    python benchmarks/run_length.py                             # seconds; SWC files in local/fib25-skeletons
    python benchmarks/run_length.py --spacing 500               # a node every 500 nm between branches, as people trace
    python benchmarks/run_length.py --run results-fib25         # and the segmentation of a run of the example

Skeletons are made of the labels by kimimaro (`pip install kimimaro`) with its defaults; labels under 1,000 voxels get
none. The SWC files serve as `skeletons.files` of the example as well.
"""

import argparse
from pathlib import Path

import h5py
import numpy as np
from starter import DATA

from unet.evaluation.expected_run_length import expected_run_length_scores
from unet.evaluation.skeletons import PlacedSkeletons, place_in_volume, read_skeletons
from unet.geometry.box import Box
from unet.storage.zarr_store import open_image

FIB25 = DATA / "fib25" / "validation.h5"
VOXEL_NM = (10.0, 10.0, 10.0)


def write_skeletons(labels: np.ndarray, folder: Path, spacing_nm: float) -> None:
    """Write an SWC file per label, in nm."""
    import kimimaro

    folder.mkdir(parents=True, exist_ok=True)
    for label, skeleton in kimimaro.skeletonize(labels, anisotropy=VOXEL_NM, progress=False).items():
        if spacing_nm:
            skeleton = skeleton.downsample(max(1, round(spacing_nm / VOXEL_NM[0])))
            for name in ("radii", "vertex_types"):  # it has made columns of them
                setattr(skeleton, name, getattr(skeleton, name).ravel())
        # kimimaro has the order of the array's axes; SWC begins with x
        skeleton.vertices = skeleton.vertices[:, ::-1]
        (folder / f"{label}.swc").write_text(skeleton.to_swc())


def row(name: str, skeletons: PlacedSkeletons, ids: np.ndarray) -> str:
    """Return a line of the table."""
    scores = expected_run_length_scores(skeletons, ids[tuple(skeletons.voxel)].astype(np.uint64))
    counts = [scores[key] for key in ("split_edges", "omitted_edges", "merging_segments")]
    return f"| {name} | {scores['erl_nm']:.0f} | {' | '.join(map(str, counts))} |"


def main() -> None:
    """Make the skeletons and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", type=Path, default=Path("local/fib25-skeletons"), help="folder of the SWC files")
    parser.add_argument("--run", type=Path, help="results of config/examples/fib25.yaml or fib25-2d.yaml")
    parser.add_argument("--spacing", type=float, default=0, help="of the nodes in nm; 0: every voxel")
    arguments = parser.parse_args()
    with h5py.File(FIB25) as file:
        truth = file["volumes/labels/neuron_ids"][:]
        found = {name: file[f"volumes/peers/{name}"][:] for name in ("ffn", "oversegmentation")}
    if arguments.run:
        image = open_image(arguments.run / "volumes" / "validation" / "segmentation.zarr")
        found["ours"] = image.read(Box.of_shape(image.shape))
    write_skeletons(truth, arguments.write, arguments.spacing)
    skeletons = place_in_volume(read_skeletons(arguments.write, 1), truth.shape, VOXEL_NM, (0, 0, 0))
    scores = expected_run_length_scores(skeletons, truth[tuple(skeletons.voxel)].astype(np.uint64))
    print(f"{scores['skeletons']} skeletons, {scores['skeleton_nm']:.0f} nm, {len(skeletons.edges)} edges")
    print("| | ERL (nm) | split edges | omitted edges | merging segments |\n|---|---|---|---|---|")
    for name, ids in {"truth": truth, **found}.items():
        print(row(name, skeletons, ids))


if __name__ == "__main__":
    main()
