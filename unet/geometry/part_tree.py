"""Divide the layers of blocks of a volume into parts that are merged one by one, and joined as a tree.

```
layers of blocks    0-2       2-4       4-6       6-7       leaves
                      \\       /           \\       /
                       0-4                 4-7
                           \\             /
                                 0-7                        root
```
"""

from collections.abc import Iterator
from typing import NamedTuple

FAN_OUT = 8
"""Parts that are joined at a time."""


class TreePart(NamedTuple):
    """A part of the tree: its layers of blocks, and the parts that it joins; none for a leaf."""

    layers: range
    children: "tuple[TreePart, ...]" = ()

    @property
    def name(self) -> str:
        """Name of the part in files: first layer and the layer behind the last one."""
        return f"{self.layers.start}-{self.layers.stop}"

    def parts(self) -> "Iterator[TreePart]":
        """Yield all parts, each behind those that it joins; this one is last."""
        for child in self.children:
            yield from child.parts()
        yield self

    def named(self, name: str) -> "TreePart":
        """Return the part with this name.

        Raises
        ------
        ValueError
            If there is none.
        """
        found = [part for part in self.parts() if part.name == name]
        if not found:
            raise ValueError(f"no part {name} of the layers of blocks {self.name}: the volume was divided otherwise")
        return found[0]

    def leaves(self) -> "list[TreePart]":
        """Return the leaves from the first layer to the last one."""
        return [part for part in self.parts() if not part.children]

    def joins(self) -> "list[TreePart]":
        """Return the parts that join others, each behind those that it joins."""
        return [part for part in self.parts() if part.children]


def tree_of_parts(layers: int, per_leaf: int, fan_out: int = FAN_OUT) -> TreePart:
    """Return the tree over all layers of blocks: leaves of `per_leaf` layers, of which `fan_out` are joined at a time.

    >>> tree = tree_of_parts(7, 2, 2)
    >>> [part.name for part in tree.leaves()], [part.name for part in tree.joins()]
    (['0-2', '2-4', '4-6', '6-7'], ['0-4', '4-7', '0-7'])
    """
    level = [TreePart(range(start, min(start + per_leaf, layers))) for start in range(0, layers, per_leaf)]
    while len(level) > 1:
        groups = [tuple(level[i : i + fan_out]) for i in range(0, len(level), fan_out)]
        level = [
            TreePart(range(group[0].layers.start, group[-1].layers.stop), group) if len(group) > 1 else group[0]
            for group in groups
        ]
    return level[0]
