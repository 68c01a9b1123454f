"""Write tables as CSV, which every program reads, and as Parquet, which is a tenth as large and keeps the types."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from unet.extras import is_installed, needs
from unet.measurement.object_table import Table
from unet.storage.files import write_with

ROWS = 50_000
"""Rows that are turned into text at once."""
DIGITS = 7
"""Significant digits of numbers that are not whole."""


class TableError(RuntimeError):
    """A table cannot be written; the message says what is missing."""


def write_csv(path: Path, table: Table) -> None:
    """Write a table as CSV, whole or not at all: one line of names, then a line per row.

    Whole numbers are exact, others have 7 significant digits, and truth values are 0 and 1.
    """
    write_with(path, partial(_fill_csv, table=table))


def _fill_csv(file: IO[bytes], table: Table) -> None:
    file.write(f"{','.join(table)}\n".encode())
    for lines in _lines(table):
        file.write(lines.encode())


def _lines(table: Table) -> Iterator[str]:
    """Yield the lines of the rows, some thousands at once."""
    rows = len(next(iter(table.values())))
    for first in range(0, rows, ROWS):
        columns = [_words(column[first : first + ROWS]) for column in table.values()]
        yield "".join(f"{','.join(row)}\n" for row in zip(*columns, strict=True))


def _words(column: NDArray[Any]) -> list[str]:
    """Return a column as text; a text with a comma or quotes is quoted.

    >>> _words(np.array([0.5, 1e-9])), _words(np.array([True])), _words(np.array(["a,b"]))
    (['0.5', '1e-09'], ['1'], ['"a,b"'])
    """
    if column.dtype.kind == "f":
        return [f"{value:.{DIGITS}g}" for value in column.tolist()]
    if column.dtype.kind == "b":
        column = column.astype(np.uint8)
    words = [str(value) for value in column.tolist()]
    return [f'"{word.replace(chr(34), chr(34) * 2)}"' if set(word) & set(',"\n') else word for word in words]


def require_parquet() -> None:
    """Refuse to write Parquet without the package for it.

    Raises
    ------
    TableError
        If pyarrow is not installed; the message says how to install it.
    """
    if not is_installed("pyarrow"):
        raise TableError(f"objects.parquet: true {needs('pyarrow')}")


def write_parquet(path: Path, table: Table) -> None:
    """Write a table as Parquet, whole or not at all."""
    import pyarrow
    from pyarrow import parquet

    columns = {name: pyarrow.array(column) for name, column in table.items()}
    write_with(path, lambda file: parquet.write_table(pyarrow.table(columns), file, compression="zstd"))
