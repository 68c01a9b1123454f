"""Programs that run as if some packages were not installed."""

import os
from collections.abc import Iterable
from pathlib import Path

from unet.extras import EXTRAS

OPTIONAL = {name.split(".")[0].replace("-", "_") for name in EXTRAS}
"""Top-level names of all optional packages, as they are imported."""


def environment_without(packages: Iterable[str], folder: Path, *paths: Path) -> dict[str, str]:
    """Return what a process needs in its environment so that it cannot import some packages.

    Python imports `sitecustomize` before anything else, from `folder`; a module that is None counts as not installed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sitecustomize.py").write_text(f"import sys\nsys.modules.update(dict.fromkeys({sorted(packages)}))\n")
    return {"PYTHONPATH": os.pathsep.join(map(str, (folder, *paths)))}
