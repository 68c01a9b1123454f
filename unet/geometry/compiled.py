"""Loops that numba compiles: when they are used, and where what was compiled is kept.

A module of kernels imports `kernel` from here, and is itself imported inside the functions that call it. What computes
nothing therefore imports no numba (0.5 s). Each kernel has a twin in numpy, with the same bits as result. The twin works
where numba is missing, and on the first voxels of a process: small volumes are done before a compiler is loaded.

The machine code is kept beside the module, or where that cannot be written, in the user's cache folder (numba's
`NUMBA_CACHE_DIR` chooses another). Files are replaced whole, so several processes may compile at once. A kernel calls
kernels of its own module only: numba does not see that another file has changed.
"""

import warnings
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

IS_INSTALLED = find_spec("numba") is not None
"""Whether numba can be imported."""
VOXELS_BY_NUMPY = 2_000_000
"""Voxels, or edges, of a process that are left to numpy. Up to here it takes less than loading the compiler."""

_seen = 0


def use_compiled(voxels: int) -> bool:
    """Return whether to use the compiled kernels for so many voxels (or edges); counts them."""
    global _seen
    _seen += voxels
    return IS_INSTALLED and _seen > VOXELS_BY_NUMPY


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function at its first call, for the types of its arguments; without the interpreter's lock."""
    import numba

    options = {"nogil": True, "error_model": "numpy"}
    try:
        compiled: Callable[..., Any] = numba.njit(cache=True, **options)(function)
    except RuntimeError as error:  # no folder for the cache can be written
        warnings.warn(f"{error}: each process compiles anew; set NUMBA_CACHE_DIR to a folder", stacklevel=2)
        compiled = numba.njit(**options)(function)
    return compiled
