"""Sum the tables of many blocks in memory that is bounded by the sum, not by the blocks."""

from collections.abc import Callable, Iterable, Sized
from typing import TypeVar

Rows = TypeVar("Rows", bound=Sized)

MIN_ROWS = 2**16
"""Rows that are gathered at least before they are summed."""


def gathered_sum(parts: Iterable[Rows], merged: Callable[[list[Rows]], Rows], min_rows: int = MIN_ROWS) -> Rows:
    """Return the sum of tables. Rows are gathered until there are more than twice as many as the sum has.

    So each row is copied a few times at most, and memory is that of the sum and of one table more.

    Parameters
    ----------
    parts : tables, one after the other
    merged : function that returns the sum of several tables; of none it returns an empty table
    min_rows : rows to gather at least

    >>> gathered_sum([["a"], ["b", "a"]], lambda tables: sorted({row for table in tables for row in table}))
    ['a', 'b']
    """
    whole, waiting, rows = merged([]), list[Rows](), 0
    for part in parts:
        waiting.append(part)
        rows += len(part)
        if rows > max(2 * len(whole), min_rows):
            whole, waiting, rows = merged([whole, *waiting]), [], 0
    return merged([whole, *waiting])
