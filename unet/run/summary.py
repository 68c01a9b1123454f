"""The lines at the end of a run: what the run has made, and why jobs have failed, each with its log."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from unet.run.report.headline import headline
from unet.storage.files import read_json


class Product(NamedTuple):
    """Something that a run can make.

    `sign` is a pattern of the file that is written when the product is made. `path` is the product's path in the folder
    of results; without it, the product is that file. The product is not named beside another one that follows from it,
    `unless`.
    """

    name: str
    sign: str
    path: str
    unless: str = ""


PRODUCTS = (
    Product("report", "run_config.yaml", "report.html"),  # `verify` writes into the page as well
    Product("plan", "plan.json", "plan.json"),
    Product("augmentation", "augmentation.html", "augmentation.html"),
    Product("checks", "receipts/verify/all.json", "receipts/verify/all.json"),
    Product("export", "receipts/export/model.json", "model/model.onnx"),
    Product("export", "receipts/export/model.json", "model/bioimageio.zip"),
    Product("tiff", "exports/*/*.ome.tif", ""),
    Product("precomputed", "receipts/export_precomputed/*/all.json", "exports/{volume}/precomputed"),
    Product("webknossos", "receipts/export_webknossos/*/all.json", "exports/{volume}/webknossos"),
    Product("model", "receipts/train/model.json", "model/model.pt"),
    Product("segmentation", "receipts/relabel/*/segmentation/*.json", "volumes/{volume}/segmentation.zarr"),
    Product("probability", "receipts/predict/*/*.json", "volumes/{volume}/probability.zarr", unless="segmentation"),
    Product("scores", "volumes/*/evaluation.json", "volumes/{volume}/evaluation.json", unless="report"),
)
MAX_FAILURES_LISTED, MAX_LOGS_LISTED, MAX_RECEIPTS_LISTED = 20, 3, 5


@dataclass(frozen=True)
class Failure:
    """Jobs that ended with the same message, by their logs."""

    message: str
    logs: tuple[Path, ...]


def written(results: Path) -> dict[Path, int]:
    """Return the files that say that something was made, and their times (ns): receipts, evaluations, pages."""
    found = [*(results / "receipts").rglob("*.json"), *(results / "volumes").glob("*/evaluation.json")]
    found += (results / "exports").glob("*/*.ome.tif")
    found += [results / product.sign for product in PRODUCTS if "/" not in product.sign]
    return {path: path.stat().st_mtime_ns for path in found if path.exists()}


def notes_of_failures(results: Path) -> dict[Path, int]:
    """Return the notes of failed jobs (`unet.jobs.script`), and when each was written (ns)."""
    return {path: path.stat().st_mtime_ns for path in (results / "logs").rglob("*.error")}


def is_reported(results: Path, made: Iterable[Path]) -> bool:
    """Return whether a run has made the report, which a record of the run belongs to."""
    return results / "run_config.yaml" in set(made)


def lines_of_run(results: Path, made: Iterable[Path]) -> list[str]:
    """Return what a run has made, with the scores of what is delivered where it has made the report."""
    made = list(made)
    lines = [f"{name:14}{path}" for name, path in products(results, made)]
    return lines + (headline(read_json(results / "scores.json")) if is_reported(results, made) else [])


def new(before: Mapping[Path, int], after: Mapping[Path, int]) -> list[Path]:
    """Return the files that were written in between.

    >>> [str(path) for path in new({Path("a"): 1, Path("b"): 1}, {Path("a"): 1, Path("b"): 2, Path("c"): 3})]
    ['b', 'c']
    """
    return sorted(path for path, when in after.items() if before.get(path) != when)


def products(results: Path, made: Iterable[Path]) -> list[tuple[str, str]]:
    """Return the products of a run: a name, and where it lies. A run without `PRODUCTS` has made its receipts.

    Parameters
    ----------
    results : folder of everything that is written
    made : files of `written` that are new

    >>> products(Path("r"), [Path("r/receipts/train/model.json"), Path("r/receipts/survey/a.json")])
    [('model', 'r/model/model.pt')]
    >>> products(Path("r"), [Path("r/receipts/survey/a.json")])
    [('receipt', 'r/receipts/survey/a.json')]
    """
    made = sorted(made)
    found: dict[str, list[str]] = {}
    for product in PRODUCTS:
        signs = [path.relative_to(results) for path in made if path.relative_to(results).match(product.sign)]
        if signs and product.unless not in found:
            paths = dict.fromkeys(_path(results, product.path, sign) for sign in signs)
            found.setdefault(product.name, []).extend(paths)
    if not found and made:
        more = [f"and {len(made) - MAX_RECEIPTS_LISTED:,} more"] if len(made) > MAX_RECEIPTS_LISTED else []
        found = {"receipt": [*map(str, made[:MAX_RECEIPTS_LISTED]), *more]}
    return [(name, path) for name, paths in found.items() for path in paths]


def _path(results: Path, path: str, sign: Path) -> str:
    """Return where a product lies: a store perhaps at the address that the survey of its volume names."""
    if "{volume}" not in path:
        return str(results / (path or sign))
    volume = sign.parts[sign.parts.index("volumes") + 1] if sign.parts[0] == "volumes" else sign.parts[2]
    path, survey = path.format(volume=volume), results / "receipts" / "survey" / f"{volume}.json"
    address = read_json(survey).get("address") if survey.exists() and path.endswith(".zarr") else None
    return f"{address}/{path.removeprefix('volumes/')}" if address else str(results / path)


def failures(notes: Iterable[Path]) -> list[Failure]:
    """Return the failed jobs by their message, in the order of their notes; jobs with the same message together.

    Parameters
    ----------
    notes : files of `notes_of_failures` that are new
    """
    logs: dict[str, list[Path]] = {}
    for note in notes:
        logs.setdefault(read_json(note)["message"], []).append(note.with_suffix(".log"))
    return [Failure(message, tuple(own)) for message, own in logs.items()]


def failure_lines(found: Iterable[Failure]) -> list[str]:
    """Return lines for the terminal: each message once, with its logs; only the first of many.

    >>> print(*failure_lines([Failure("a.tif: cut short", (Path("logs/ingest/a.log"),))]), sep="\\n")
    1 job failed:
    a.tif: cut short
        log: logs/ingest/a.log
    """
    found = list(found)
    jobs = sum(len(one.logs) for one in found)
    lines = [f"{jobs} job{'s' * (jobs != 1)} failed:"] if jobs else []
    for one in found[:MAX_FAILURES_LISTED]:
        lines += [one.message, *(f"    log: {log}" for log in one.logs[:MAX_LOGS_LISTED])]
        if len(one.logs) > MAX_LOGS_LISTED:
            lines.append(f"    and {len(one.logs) - MAX_LOGS_LISTED} more")
    if len(found) > MAX_FAILURES_LISTED:
        lines.append(f"and {len(found) - MAX_FAILURES_LISTED} other messages, in the files *.error beside the logs")
    return lines
