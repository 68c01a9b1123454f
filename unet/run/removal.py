"""Remove all that runs wrote into a folder of results, and nothing else.

    python -m unet.run.removal results           (make clean-results RESULTS=results)

`snakemake --delete-all-output` removes declared outputs alone, so the stores would stay, and be found finished by the
next run. Files that no run writes stay where they are, and so do stores at an address; both are listed.
"""

import argparse
import shutil
from collections.abc import Iterator
from pathlib import Path

from unet.run.rules import RULES, names_of_stores
from unet.storage.files import read_json

WRITTEN = (
    *("run_config.yaml", "report.html", "report", "scores.json", "augmentation.html", "plan.json", "config.yaml"),
    *("provenance.json", "ro-crate-metadata.json", "workflow", "receipts", "logs", "benchmarks"),
    *("sample/raw.tif", "sample/labels.tif"),
    *(f"model/{name}" for name in ("model.onnx", "bioimageio.zip", "lock")),
    *(f"model/**/{name}" for name in ("model*.pt", "state*.pt", "training*.jsonl", "tensorboard")),
    *(f"model/*/{name}.json" for name in ("settings", "stopped", "receipt")),
    *("exports/*/*.ome.tif", "exports/*/precomputed", "exports/*/webknossos"),
    *(f"volumes/*/{name}.{kind}" for name in ("objects", "contacts", "inside-*") for kind in ("csv", "parquet")),
    *("volumes/*/meshes", "volumes/*/skeletons", "volumes/*/meshes.csv", "volumes/*/skeletons.csv"),
    *("volumes/*/evaluation.json", "volumes/*/overlap.npz", "volumes/*/*-tables", "volumes/*/probability-tiles"),
    *(f"volumes/*/{name}.zarr" for rule in RULES for name in names_of_stores(rule)),
    *("volumes/*/.*.zarr.*", "**/.*.partial"),
)
"""Patterns of all that a run writes; `config.yaml` is that of a reproduced run."""


class RemovalError(ValueError):
    """A folder is not one whose content may be removed; the message says why."""


def remove_results(results: Path) -> tuple[list[Path], list[str]]:
    """Remove what runs wrote into a folder.

    Parameters
    ----------
    results
        The folder that `results` of a configuration names.

    Returns
    -------
    files that no run writes, which stay; addresses of the stores that lie elsewhere and stay

    Raises
    ------
    RemovalError
        If the folder is not one of results, or a run is under way.
    """
    require_removable(results)
    elsewhere = sorted(_addresses(results))
    for pattern in WRITTEN:
        for path in list(results.glob(pattern)):
            _remove(path)
    for folder in sorted((path for path in results.rglob("*") if path.is_dir()), reverse=True):
        _remove_empty(folder)
    left = sorted(path for path in results.rglob("*") if not path.is_dir() or path.is_symlink())
    if not left and not results.is_symlink():
        _remove_empty(results)
    return left, elsewhere


def require_removable(results: Path) -> None:
    """Refuse a folder that no run of this workflow has written to, and one that a run writes to."""
    if not results.is_dir():
        raise RemovalError(f"{results} is no folder; give the folder of results, as in RESULTS=results")
    planned = results / "plan.json"
    if not (results / "receipts" / "survey").is_dir() and not (planned.exists() and "config" in read_json(planned)):
        raise RemovalError(
            f"{results} is not a folder of results: it has neither receipts/survey nor plan.json, which every run "
            "writes; nothing was removed"
        )
    locks = Path(".snakemake") / "locks"
    if locks.is_dir() and any(locks.iterdir()):
        raise RemovalError(
            f"a run is under way in {Path.cwd()}, or was killed: wait for it, or run snakemake --unlock first; "
            "nothing was removed"
        )


def _addresses(results: Path) -> Iterator[str]:
    """Return the addresses of stores that lie outside the folder of results."""
    for survey in (results / "receipts" / "survey").glob("*.json"):
        address = read_json(survey).get("address")
        if address:
            yield f"{address}/{survey.stem}"


def _remove(path: Path) -> None:
    """Remove a file, a folder with its content, or a link without its target."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _remove_empty(folder: Path) -> None:
    if not folder.is_symlink() and not any(folder.iterdir()):
        folder.rmdir()


def main() -> None:
    """Remove, and say what stays."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, help="folder of results, as `results` of the configuration names it")
    results = parser.parse_args().results
    try:
        left, elsewhere = remove_results(results)
    except RemovalError as error:
        raise SystemExit(str(error)) from None
    print(f"removed: all that runs wrote into {results}")
    for path in left:
        print(f"stays, no run wrote it: {path}")
    for address in elsewhere:
        print(f"stays, remove it with a tool of the object store: {address}")


if __name__ == "__main__":
    main()
