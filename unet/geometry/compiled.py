"""Loops that numba compiles: when they are used, and where what was compiled is kept.

A module of kernels imports `kernel` from here, and is itself imported inside the functions that call it. What computes
nothing therefore imports no numba (0.5 s). Each kernel has an equivalent in numpy, with the same bits as result. It is
used where numba is missing, and on the first voxels of a process: small volumes are done before a compiler is loaded.

The machine code is kept beside the module, or where that cannot be written, in the user's cache folder. The environment
variable `NUMBA_CACHE_DIR` chooses another. Files are replaced whole, so several processes may compile at once. A kernel
calls kernels of its own module only: numba does not see that another file has changed.
"""

import os
import warnings
from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

IS_INSTALLED = find_spec("numba") is not None
"""Whether numba can be imported."""
VOXELS_BY_NUMPY = 2_000_000
"""Voxels, or edges, of a process that are left to numpy. Up to here it takes less than loading the compiler."""
VOXELS_WHILE_COMPILING = 40_000_000
"""The same where nothing was compiled yet: about what numpy does in the time that the compiler takes."""

_seen = 0


def use_compiled(voxels: int) -> bool:
    """Return whether to use the compiled kernels for so many voxels (or edges), which are counted."""
    global _seen
    _seen += voxels
    if not IS_INSTALLED or _seen <= VOXELS_BY_NUMPY:
        return False
    return _seen > VOXELS_WHILE_COMPILING or was_compiled(os.environ.get("NUMBA_CACHE_DIR"))


@cache
def was_compiled(cache_folder: str | None) -> bool:
    """Return whether an earlier process has left machine code in the folder, or in one of those that numba chooses."""
    user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "numba"
    beside = [Path(__file__).parents[1] / package / "__pycache__" for package in ("segmentation", "geometry")]
    folders = [Path(cache_folder)] if cache_folder else [*beside, user]
    return any(True for folder in folders for _ in folder.rglob("compiled_*.nbi"))


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function at its first call, for the types of its arguments; it runs without the interpreter's lock."""
    njit: Any = import_module("numba").njit
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
    try:
        compiled: Callable[..., Any] = njit(cache=True, **options)(function)
    except RuntimeError as error:
        why = f"{error}: each process compiles anew; set NUMBA_CACHE_DIR to a folder that can be written"
        warnings.warn(why, stacklevel=2)
        compiled = njit(**options)(function)
    return compiled
