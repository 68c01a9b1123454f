"""SWC files: what is read from them, what is refused with which words, and which nodes lie in a volume."""

from pathlib import Path

import numpy as np
import pytest

from unet.evaluation.skeletons import SkeletonError, Skeletons, place_in_volume, read_skeletons

HEAD = "# made by hand, in \xb5m\n\n"


def swc(path: Path, *rows: str) -> Path:
    """A file of these lines, with a comment in an old encoding above them."""
    path.write_bytes((HEAD + "\n".join(rows) + "\n").encode("latin-1"))
    return path


def test_a_file_is_one_skeleton_in_nm_whatever_its_trees_and_the_order_of_its_nodes(tmp_path: Path) -> None:
    swc(tmp_path / "b.swc", "7 2 3 2 1 0 1", "1 0 6 5 4 0 -1", "9 0 0 0 0 0 -1  # a second tree")
    swc(tmp_path / "a.SWC", "1 0 1 1 1 0 -1", "2 0 1 1 2 0 1")
    (tmp_path / "notes.txt").write_text("of no interest")
    found = read_skeletons(tmp_path, 1000)
    assert found.skeleton.tolist() == [0, 0, 1, 1, 1]
    assert found.node_nm[2:].tolist() == [[1000, 2000, 3000], [4000, 5000, 6000], [0, 0, 0]]
    assert found.edges.tolist() == [[1, 0], [2, 3]]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["1 0 1 1 1 0"], r"bad\.swc has 6 columns, but an SWC file has 7: id type x y z radius parent"),
        (["1 0 one 1 1 0 -1"], r"bad\.swc is not an SWC file: .*'one'.*; a line is id type x y z radius parent"),
        (["1 0 1 1 1 0 -1", "2 0 1 1 1"], r"bad\.swc is not an SWC file: .*changed from 7 to 5"),
        ([], r"bad\.swc has no node"),
        (["1 0 nan 1 1 0 -1"], r"bad\.swc: a node has a number that is not finite: \[1\.0, 0\.0, nan"),
        (["4 0 1 1 1 0 -1", "4 0 1 1 2 0 -1"], r"bad\.swc: there are two nodes 4"),
        (["1 0 1 1 1 0 -1", "2 0 1 1 2 0 3", "3 0 1 1 2 0 2"], "the parents of node 2 lead back to itself"),
        (["1 0 1 1 1 0 1"], "the parents of node 1 lead back to itself"),
        (["1 0 1 1 1 0 -1", "2 0 1 1 2 0 8"], r"bad\.swc: node 2 has parent 8, which is not there; a root has -1"),
    ],
)
def test_what_is_no_skeleton_is_refused_by_name(tmp_path: Path, rows: list[str], message: str) -> None:
    with pytest.raises(SkeletonError, match=message):
        read_skeletons(swc(tmp_path / "bad.swc", *rows), 1)


def test_a_folder_without_skeletons_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SkeletonError, match=r"there is no file that ends in \.swc"):
        read_skeletons(tmp_path, 1)


def test_a_node_lies_in_the_voxel_whose_centre_is_next_to_it() -> None:
    at = np.array([[100.0, 20.0, x] for x in (17.9, 18.1, 21.9, 22.1, 33.9, 34.1)])
    line = Skeletons(at, np.zeros(6, np.int64), np.array([[0, 1], [1, 2], [2, 3], [3, 4], [4, 5]]))
    found = place_in_volume(line, (1, 1, 4), (50, 4, 4), (100, 20, 20))
    assert found.voxel[2].tolist() == [0, 0, 1, 3]
    assert found.length_nm == pytest.approx([3.8, 0.2, 11.8])
    assert found.edges.tolist() == [[0, 1], [1, 2], [2, 3]]
    assert found.outside == 2


def test_nodes_are_put_in_the_order_of_their_sections_with_their_edges() -> None:
    zigzag = Skeletons(
        np.array([[2.0, 0, 0], [0, 0, 1], [1, 0, 3]]), np.array([5, 5, 6]), np.array([[0, 1], [1, 2], [2, 0]])
    )
    found = place_in_volume(zigzag, (3, 1, 4), (1, 1, 1), (0, 0, 0))
    assert found.voxel.T.tolist() == [[0, 0, 1], [1, 0, 3], [2, 0, 0]]
    assert found.skeleton.tolist() == [5, 6, 5]
    assert found.edges.tolist() == [[2, 0], [0, 1], [1, 2]]


def test_skeletons_that_lie_elsewhere_are_told_from_where_to_where() -> None:
    far = Skeletons(np.array([[9.0, 8, 7], [9.5, 8, 7]]), np.zeros(2, np.int64), np.array([[0, 1]]))
    message = (
        r"none of the 2 nodes .*z, y, x are 9 to 9\.5, 8 to 8, 7 to 7 nm, those of its voxels "
        r"100 to 150, 0 to 8, 0 to 12 nm; set skeletons\.unit_nm"
    )
    with pytest.raises(SkeletonError, match=message):
        place_in_volume(far, (2, 3, 4), (50, 4, 4), (100, 0, 0))
