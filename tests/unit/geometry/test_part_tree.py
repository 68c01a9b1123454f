"""The tree of parts covers every layer of blocks once."""

import pytest

from unet.geometry.part_tree import tree_of_parts


@pytest.mark.parametrize("layers", [1, 2, 7, 64, 65])
def test_the_leaves_of_a_tree_cover_all_layers_once(layers: int) -> None:
    tree = tree_of_parts(layers, 2, 4)
    assert [layer for leaf in tree.leaves() for layer in leaf.layers] == list(range(layers))
    assert all(2 <= len(part.children) <= 4 for part in tree.joins())
    assert tree.layers == range(layers)


def test_a_part_is_found_by_its_name() -> None:
    tree = tree_of_parts(7, 2, 2)
    assert tree.named("4-7").layers == range(4, 7)
    with pytest.raises(ValueError, match="no part 1-2 of the layers of blocks 0-7"):
        tree.named("1-2")


def test_a_small_volume_is_one_part() -> None:
    tree = tree_of_parts(3, 5)
    assert (tree.name, tree.children, tree.joins()) == ("0-3", (), [])
