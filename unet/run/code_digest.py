"""Compute one digest of the code that computes the result of a rule. Snakemake does not see edits of a package.

1. The whole script is part of the digest, and the definitions of the package that it uses, directly or not. These are
   functions, classes and constants, found by their names through all imports.
2. A definition enters by its normal form (`unet.run.normal_form`): without docstrings, messages, log calls and
   annotations.
3. Code that does not compute a result is listed in `DOES_NOT_COMPUTE`. All other code is part of the digest.

Neither the names nor the folders of files enter. A definition that moves to another module changes nothing.
"""

import ast
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import unet
from unet.run.normal_form import Form, computes_nothing, is_for_types, is_section, normal_form

PACKAGE = Path(unet.__path__[0])

DOES_NOT_COMPUTE = {
    "unet.__version__": "a release alone changes nothing",
    "unet.extras": "says how to install what is missing",
    "unet.geometry.compiled": "chooses between two implementations that give the same bits",
    "unet.jobs.blockwise": "order and records of blocks; a block is the same in any order",
    "unet.jobs.dask_clients": "connects to schedulers and workers; a block is the same on any",
    "unet.jobs.device_capacity": "measures the machine; the tile chosen by it is part of a block's fingerprint",
    "unet.jobs.devices": "finds a free device; its name and precision are recorded",
    "unet.jobs.journal": "records finished blocks; a fingerprint that is computed in another way differs anyway",
    "unet.jobs.log_line": "words of log lines",
    "unet.jobs.pipeline": "order and workers of blocks; a block is the same in any order",
    "unet.jobs.privacy": "keeps secrets out of records and logs",
    "unet.jobs.progress": "says how far a job is",
    "unet.jobs.script": "arguments, log file and errors of a script",
    "unet.jobs.slurm_workers": "starts the workers of a prediction",
    "unet.network.complexity": "predicts time and memory; the tile chosen by it is part of a block's fingerprint",
    "unet.network.tile_selection": "chooses tile and batch, which are part of a block's fingerprint",
    "unet.network.worker.Lease": "keeps the workers of an earlier run from writing",
    "unet.network.worker.MAX_LOADED_MODELS": "models that a worker holds at once",
    "unet.run.plan.limits": "refuses configurations that cannot run",
    "unet.storage.address": "strings of addresses; the bytes behind them are the same",
    "unet.storage.backends": "carries the bytes of files; they are the same behind any address",
    "unet.storage.digests": "hashes; a fingerprint that is computed in another way differs anyway",
    "unet.storage.error_causes": "words for what the system and libraries raise",
    "unet.storage.files": "carries small files to the disk and back, whole",
    "unet.storage.local_folder": "carries the bytes of files",
    "unet.storage.locks": "keeps two processes from one file",
    "unet.storage.ngff.implausible_voxel_size": "refuses a voxel size; the one that is taken is a parameter",
    "unet.storage.object_storage": "carries the bytes of objects",
    "unet.storage.page_checksums": "refuses files that changed on the disk",
    "unet.storage.zip_archive": "carries the bytes of files; they are the same in an archive",
    "unet.storage.zarr_store._lock": "keeps two processes from one store",
    "unet.training.distributed.TIMEOUT": "how long a process waits for another",
    "unet.training.distributed._watched_children": "ends a training whose processes died",
    "unet.training.divergence": "ends a training that diverges; a training that goes on is the same",
    "unet.training.folder": "keeps the files of one training from those of another",
    "unet.training.label_counts.summary_line": "words of a log line",
    "unet.training.learning_curve": "shows how a training goes on",
    "unet.training.state": "stores the state of a training; a training that goes on from it is the same",
    "unet.training.stop_requests": "ends a training at a signal; a training that goes on from its state is the same",
    "unet.volumes.block_inputs": "digests of inputs; the code that reads them counts",
    "unet.volumes.intensity.CROWD": "when a warning is given",
    "unet.volumes.intensity.CROWD_WIDTH": "when a warning is given",
    "unet.volumes.intensity.crowd_at_an_end": "when a warning is given",
    "unet.volumes.input_states": "tells which jobs run again",
    "unet.volumes.readers.errors": "words for what libraries raise",
    "unet.volumes.readers.tiff_axes.NO_LABELS": "words of a refusal",
    "unet.volumes.readers.tiff_axes.ONE_COLOUR": "words of a refusal",
    "unet.volumes.readers.tiff_axes.TAKE_ONE": "words of a refusal",
    "unet.volumes.readers.tiff_axes.TO_GREY": "words of a refusal",
}
"""Modules and definitions whose code changes no result, and why. Code that only they use does not count either."""


def code_digest(script: Path, package: Path = PACKAGE) -> str:
    """Return a hash of all code that computes the result of a script; it changes only with that code.

    Parameters
    ----------
    script : Path
        A Python file that imports modules of the package.
    package : Path
        Folder of the package `unet`.
    """
    summary = hashlib.blake2b(digest_size=8)
    numbers = {definition: number for number, definition in enumerate(definitions_of(script, package))}
    for definition in numbers:
        text, used = _meaning(definition)
        summary.update(repr((text, [(name, [numbers[one] for one in found]) for name, found in used])).encode())
    return summary.hexdigest()


@dataclass(frozen=True, eq=False)
class Module:
    """A file of Python, and the folder of the package whose code is followed.

    Attributes
    ----------
    full_name : str
        Dotted, such as ``unet.storage.zarr_store``; empty for a script.
    imports : dict
        By a name of this module, the full names of what is imported under it.
    """

    path: Path
    package: Path
    full_name: str
    source: "ParsedFile"
    imports: dict[str, list[tuple[str, ...]]]


@dataclass(frozen=True, eq=False)
class ParsedFile:
    """The content of a file: statements by the name that they define, and all imports.

    The name is empty for a statement that defines none, and `__main__` for statements that run only when the file is
    started.
    """

    statements: dict[str, list[ast.stmt]]
    imports: list[ast.Import | ast.ImportFrom]


@dataclass(frozen=True)
class Definition:
    """The statements of a module that define one name."""

    module: Module
    name: str


def definitions_of(script: Path, package: Path = PACKAGE) -> list[Definition]:
    """Return the definitions that compute the result of a script, in the order in which they are met."""
    met = dict.fromkeys(_all_of(_module(script, package)))
    waiting = list(met)
    for definition in waiting:
        for _, found in _meaning(definition)[1]:
            for one in found:
                if one not in met:
                    met[one] = None
                    waiting.append(one)
    return waiting


@cache
def _meaning(definition: Definition) -> tuple[str, list[tuple[str, list[Definition]]]]:
    """Return the normal form of a definition, and the definitions behind each name that it uses.

    Only configuration sections count among annotations, since pydantic makes the argument from them.
    """
    module = definition.module
    form = _form(module.source, definition.name)
    used = [(name, _behind(name.split("."), module)) for name in form.names]
    for name in form.annotated:
        used.append((name, [one for one in _behind(name.split("."), module) if _is_section(one)]))
    return form.text, [(name, found) for name, found in used if found]


@cache
def _form(source: ParsedFile, name: str) -> Form:
    return normal_form(source.statements[name])


def _is_section(definition: Definition) -> bool:
    return is_section(definition.module.source.statements[definition.name][0])


def _behind(parts: Sequence[str], module: Module) -> list[Definition]:
    """Return the definitions behind a dotted name in a module: its own, or an imported one."""
    if parts[0] in module.source.statements:
        return _counted(module, parts[0])
    imported = module.imports.get(parts[0], ())
    return [one for full in imported for one in _found((*full, *parts[1:]), module.package)]


def _found(full: Sequence[str], package: Path) -> list[Definition]:
    """Return the definitions behind a full name such as ``unet.network.model.UNet``; for a module all of its own."""
    if full[0] != package.name:
        return []
    place, rest = package, list(full[1:])
    while rest and (inner := _inside(place, rest[0])) is not None:
        place = inner
        rest.pop(0)
    module = _module(place if place.suffix == ".py" else place / "__init__.py", package)
    is_known = bool(rest) and (rest[0] in module.source.statements or rest[0] in module.imports)
    if rest and not is_known and place.is_dir():
        raise ValueError(f"{'.'.join(full)} is imported, but {place} has no {rest[0]}")
    return _behind(rest, module) if is_known else _all_of(module)  # rather too much than too little


@cache
def _inside(folder: Path, name: str) -> Path | None:
    """Return the module or sub-package of a name in a package; a sub-package may be without `__init__.py`."""
    candidates = (folder / f"{name}.py", folder / name)
    return next((path for path in candidates if path.is_file() or path.is_dir()), None)


def _all_of(module: Module) -> list[Definition]:
    return list(dict.fromkeys(one for name in module.source.statements for one in _counted(module, name)))


def _counted(module: Module, name: str) -> list[Definition]:
    """Return a definition, and what its module does beside defining; nothing where it computes no result."""
    if module.full_name in DOES_NOT_COMPUTE or f"{module.full_name}.{name}" in DOES_NOT_COMPUTE:
        return []
    if name == "__main__" and module.full_name:
        return []
    names = [name, ""] if name and "" in module.source.statements else [name]
    return [Definition(module, one) for one in names]


@cache
def _module(path: Path, package: Path) -> Module:
    is_script = package not in path.parents
    full_name = "" if is_script else ".".join(path.relative_to(package.parent).with_suffix("").parts)
    source = _source(path.read_text() if path.exists() else "")
    imports: dict[str, list[tuple[str, ...]]] = {}
    for node in source.imports:
        for alias in node.names:
            name, full = _bound(node, alias, path, package)
            imports.setdefault(name, []).append(full)
    return Module(path, package, full_name.removesuffix(".__init__"), source, imports)


@cache
def _source(text: str) -> ParsedFile:
    tree = ast.parse(text)
    statements: dict[str, list[ast.stmt]] = {}
    for statement in tree.body:
        for name in _names_defined(statement):
            statements.setdefault(name, []).append(statement)
    return ParsedFile(statements, list(_imports_among(tree.body)))


def _names_defined(statement: ast.stmt) -> list[str]:
    """Return the names that a statement at the top of a module defines, see `ParsedFile`."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [statement.name]
    if isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        return [node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)]
    if computes_nothing(statement):
        return []
    runs_alone = isinstance(statement, ast.If) and "__main__" in ast.unparse(statement.test)
    return ["__main__"] if runs_alone else [""]


def _imports_among(statements: Sequence[ast.AST]) -> Iterator[ast.Import | ast.ImportFrom]:
    """Yield the imports among some statements and inside them, except imports for types."""
    for statement in statements:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            yield statement
        elif not (isinstance(statement, ast.stmt) and is_for_types(statement)):
            for part in ("body", "orelse", "finalbody", "handlers", "cases"):
                yield from _imports_among(getattr(statement, part, None) or ())


def _bound(
    node: ast.Import | ast.ImportFrom, alias: ast.alias, path: Path, package: Path
) -> tuple[str, tuple[str, ...]]:
    """Return the name that an import binds, and the full name behind it."""
    if isinstance(node, ast.Import):
        full = tuple(alias.name.split("."))
        return (alias.asname, full) if alias.asname else (full[0], full[:1])
    if alias.name == "*":
        raise ValueError(f"{path}: import the names of {node.module} one by one; `*` hides which code is used")
    above = path.relative_to(package.parent).parts[: -node.level] if node.level else ()
    return alias.asname or alias.name, (*above, *(node.module.split(".") if node.module else ()), alias.name)
