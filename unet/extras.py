"""Optional packages: which extra brings a package, and how to install the extra.

A plain install brings what a plain run needs. Every other package is imported in the function that needs it, and
belongs to an extra of `pyproject.toml`. This module lies below all packages, so that each can name an extra.
"""

from importlib.util import find_spec

EXTRAS = {
    "bokeh": "dashboard",
    "rocrate": "crate",
    "snakemake-executor-plugin-slurm": "slurm",
    "dask-jobqueue": "slurm",
    "cryptography": "slurm",
    "onnx": "export",
    "onnxruntime": "export",
    "bioimageio.spec": "export",
    "bioimageio.core": "export",
    "tensorboard": "tensorboard",
    "bioimage-cpp": "multicut",
    "DracoPy": "meshes",
    "pyarrow": "parquet",
    "obstore": "s3",
    "tensorstore": "formats",
    "nibabel": "formats",
    "pynrrd": "formats",
    "ncempy": "formats",
    "wkw": "formats",
    "hdf5plugin": "formats",
    "neuroglancer": "view",
}
"""The extra that brings each optional package, by the package's name on PyPI; of several extras one."""
IMPORTED_AS = {"pynrrd": "nrrd"}
"""Names under which packages are imported, where they are not the package's own."""


def is_installed(package: str) -> bool:
    """Return whether an optional package can be imported, without importing it.

    >>> is_installed("a-package-that-nobody-has")
    False
    """
    return find_spec(IMPORTED_AS.get(package, package.replace("-", "_"))) is not None


def needs(package: str, extra: str | None = None) -> str:
    """Return the end of a message about a missing package: what is needed, and the command that installs it.

    Parameters
    ----------
    package : name of the package on PyPI
    extra : the extra to name, where several bring the package

    >>> needs("obstore")
    "needs obstore, of the extra s3: pip install --constraint constraints.txt --editable '.[s3]'"
    """
    extra = extra or EXTRAS[package]
    return f"needs {package}, of the extra {extra}: pip install --constraint constraints.txt --editable '.[{extra}]'"
