"""Run the tests of a module against mutants of it: ``python -m tests.mutants``.

1. The tests of a module are run once without a change. Each test's time and the lines of the module that it reaches are
   kept. The tests are the doctests of the module, the test file of the same name, and those in `targets.TARGETS`.
2. `chosen` draws the mutants of each module from a seed, so that every operator has its turn.
3. A process is forked per mutant, with the libraries imported already. It works on its own copy of the package, and
   runs the tests that reach the changed statement, the quickest first, until one fails; then the other quick ones.
4. A mutant is killed if a test fails, cannot be collected, or takes too long. The others have survived. They are
   equivalent if `targets.EQUIVALENT` says why; the rest are gaps.

``--seed 1`` draws other mutants, ``--module locks`` only those of some modules, ``--by-hand`` the written ones alone.
``--out results.json`` keeps the results, and ``--again results.json`` runs those once more that were not killed.
"""

import argparse
import hashlib
import importlib
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.mutants.operators import Mutant, mutants_of
from tests.mutants.targets import BY_HAND, EQUIVALENT, GROUPS, TARGETS

ROOT = Path(__file__).parents[2]
COPIED = ("unet", "tests", "scripts", "workflow", "config", "snakemake_logger_plugin_unet_em", "pyproject.toml")
LIBRARIES = "numpy scipy.ndimage scipy.sparse.csgraph torch zarr cc3d fastremap h5py tifffile imagecodecs pydantic"
LIBRARIES += " hypothesis skimage.segmentation yaml numcodecs google_crc32c networkx"
OTHERS_S = 10.0
"""Seconds of other tests that are run if those that reach the statement pass: some act in processes of their own."""
PATIENCE, CPU_S, WALL_S = 2, 30.0, 240.0
"""A run may take this many times its usual seconds, and so many of a processor and in all beside; then it hangs."""


class Watch:
    """Plugin of pytest that notes the seconds of each test, and the lines of some files that the test reaches."""

    def __init__(self, files: dict[str, str]) -> None:
        self.module_of = files  # path to name
        self.lines: dict[str, dict[str, set[int]]] = defaultdict(lambda: defaultdict(set))
        self.seconds: dict[str, float] = {}

    def result(self) -> list[Any]:
        """Return what was noted, as JSON takes it: seconds of each test, and test to module to lines."""
        return [self.seconds, {test: {m: sorted(n) for m, n in own.items()} for test, own in self.lines.items()}]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Trace one test, with its fixtures and its threads."""
        reached = self.lines[item.nodeid]

        def trace(frame: Any, event: str, argument: object) -> Callable[..., Any] | None:
            module = self.module_of.get(frame.f_code.co_filename)
            if module is None:
                return None
            lines = reached[module]

            def line(frame: Any, event: str, argument: object) -> Callable[..., Any]:
                lines.add(frame.f_lineno)
                return line

            return line(frame, event, argument)

        begin = time.perf_counter()
        threading.settrace(trace)
        sys.settrace(trace)
        try:
            return (yield)
        finally:
            sys.settrace(None)
            threading.settrace(None)
            self.seconds[item.nodeid] = time.perf_counter() - begin


class Chosen:
    """Plugin of pytest that runs the named tests alone, in their order, and does not shrink what hypothesis finds."""

    def __init__(self, names: list[str] | None, examples: int) -> None:
        self.names, self.examples = names, examples

    def pytest_collection(self) -> None:
        """Set hypothesis up, after `tests/conftest.py` has and before a test is read."""
        from hypothesis import Phase, settings

        phases = (Phase.explicit, Phase.generate)
        fixed: dict[str, Any] = {"deadline": None, "derandomize": True, "database": None, "phases": phases}
        settings.register_profile("mutants", max_examples=self.examples, **fixed)
        settings.load_profile("mutants")

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Choose and sort."""
        if self.names is not None:
            place = {name: number for number, name in enumerate(self.names)}
            items[:] = sorted((item for item in items if item.nodeid in place), key=lambda item: place[item.nodeid])


class Workplace:
    """A copy of the project in which modules may be changed; hypothesis draws so many examples there."""

    def __init__(self, folder: Path, examples: int) -> None:
        self.root, self.version, self.examples = folder / "project", 0, examples
        for name in COPIED:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, self.root / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / name, self.root / name)

    def write(self, module: str, source: str) -> None:
        """Write a module; compiled files go by the time of the source in whole seconds, so each version has its own."""
        self.version += 1
        path = self.root / module
        path.write_text(source)
        os.utime(path, (1_000_000_000 + self.version,) * 2)

    def pytest(self, files: list[str], plugins: list[object], limit_s: float, result: Callable[[], Any] = dict) -> Any:
        """Run pytest in a forked process; return its exit status and `result` of it, or None if it took too long.

        A busy machine is no reason: the limit is one of processor time, unless the process sleeps.
        """
        answer = self.root.parent / "answer.json"
        answer.unlink(missing_ok=True)
        if (child := os.fork()) == 0:
            try:
                resource.setrlimit(resource.RLIMIT_CPU, (int(limit_s + CPU_S),) * 2)
                status = self._pytest_here(files, plugins)
                answer.write_text(json.dumps([int(status), result()]))
            finally:
                os._exit(0)
        deadline = time.monotonic() + limit_s + WALL_S
        while os.waitpid(child, os.WNOHANG)[0] == 0:
            if time.monotonic() > deadline:
                with suppress(ProcessLookupError):
                    os.killpg(child, signal.SIGKILL)
                os.waitpid(child, 0)
                return None
            time.sleep(0.02)
        with suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)  # processes that a failed test has left
        return json.loads(answer.read_text()) if answer.exists() else [3, None]

    def _pytest_here(self, files: list[str], plugins: list[object]) -> int:
        os.setpgid(0, 0)
        os.chdir(self.root)
        os.environ["PYTHONPATH"] = str(self.root)
        sys.path[:] = [str(self.root), *(path for path in sys.path if path not in ("", str(ROOT)))]
        for name in [name for name in sys.modules if name.split(".")[0] in ("tests", "unet")]:
            del sys.modules[name]
        importlib.invalidate_caches()
        log = os.open(self.root.parent / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        temporary = f"--basetemp={self.root.parent / 'tmp'}"
        return pytest.main(["-x", "-q", "-p", "no:cacheprovider", temporary, *files], plugins=plugins)


def tests_of(module: str) -> list[str]:
    """Return the files with tests of a module: itself for its doctests, the file of the same name, and others."""
    path = Path(module)
    mirrored = ROOT / "tests" / "unit" / path.parent.relative_to("unet") / f"test_{path.stem}.py"
    own = [str(mirrored.relative_to(ROOT))] if mirrored.exists() else []
    return list(dict.fromkeys([*own, *(f"tests/unit/{name}" for name in TARGETS.get(module, (0, ()))[1]), module]))


def chosen(module: str, count: int, seed: int) -> list[Mutant]:
    """Return the mutants of a module that the seed draws, one of each operator after the other."""
    drawn, by_operator = random.Random(f"{seed}:{module}"), defaultdict(list)
    for mutant in mutants_of((ROOT / module).read_text()):
        by_operator[mutant.operator].append(mutant)
    for mutants in by_operator.values():
        drawn.shuffle(mutants)
    operators = sorted(by_operator)
    drawn.shuffle(operators)
    turns = [by_operator[operator][turn : turn + 1] for turn in range(count) for operator in operators]
    return [mutant for turn in turns for mutant in turn][:count]


def by_hand(module: str) -> list[Mutant]:
    """Return the written mutants of a module.

    Raises
    ------
    ValueError
        If the module no longer has the text to be replaced exactly once.
    """
    source, found = (ROOT / module).read_text(), []
    for old, new in BY_HAND.get(module, ()):
        if source.count(old) != 1:
            raise ValueError(
                f"{module} has {source.count(old)} times, not once: {old!r}. Correct tests/mutants/targets.py"
            )
        start = source.index(old)
        line = source.count("\n", 0, start) + 1
        lines = line, line + old.strip("\n").count("\n")
        found.append(Mutant("by hand", lines, start, start + len(old), new, "by hand", " ".join(old.split())))
    return found


@dataclass(frozen=True)
class Survey:
    """The tests of one module: seconds of each, and the lines of the module that each reaches."""

    seconds: dict[str, float]
    lines: dict[str, set[int]]

    @classmethod
    def of(cls, module: str, files: dict[str, list[Any]]) -> "Survey":
        """Return the survey of a module from those of its files with tests."""
        seconds = {name: value for file in tests_of(module) for name, value in files[file][0].items()}
        reached = {name: own for file in tests_of(module) for name, own in files[file][1].items()}
        return cls(seconds, {name: set(reached.get(name, {}).get(module, ())) for name in seconds})


def surveyed(place: Workplace, modules: list[str], cache: Path | None) -> dict[str, list[Any]]:
    """Run each file with tests of some modules, unchanged; return what `Watch` notes of it.

    A file that has not changed since is looked up in the folder `cache`.
    """
    found, targets = {}, sorted({*TARGETS, *BY_HAND})
    sources = "".join((ROOT / name).read_text() for name in targets)
    for file in sorted({file for module in modules for file in tests_of(module)}):
        key = hashlib.sha256((file + (ROOT / file).read_text() + sources).encode()).hexdigest()[:16]
        known = cache and cache / f"{key}.json"
        if known and known.exists():
            found[file] = json.loads(known.read_text())
            continue
        watch = Watch({str(place.root / name): name for name in targets})
        answer = place.pytest([file], [watch, Chosen(None, place.examples)], 1800, watch.result)
        if answer is None or answer[0] not in (0, 5):
            raise SystemExit(f"the tests of {file} fail without a change: see {place.root.parent / 'log.txt'}")
        found[file] = answer[1]
        print(
            f"{file}: {len(watch.seconds) or len(answer[1][0])} tests, {sum(answer[1][0].values()):.1f} s", flush=True
        )
        if known:
            known.parent.mkdir(parents=True, exist_ok=True)
            known.write_text(json.dumps(answer[1]))
    return found


def is_killed(
    place: Workplace, module: str, mutant: Mutant, survey: Survey, words: list[str]
) -> tuple[str, int, float]:
    """Return the fate of a mutant, how many tests reach it, and the seconds that this took.

    With `words`, only tests whose names hold one of them are run.
    """
    begin, (first, last) = time.perf_counter(), mutant.lines
    quickest = sorted(survey.seconds, key=lambda name: survey.seconds[name])
    quickest = [name for name in quickest if not words or any(word in name for word in words)]
    reaching = [name for name in quickest if any(first <= line <= last for line in survey.lines[name])]
    others, total = [], 0.0
    for name in quickest:
        total += 0 if name in reaching else survey.seconds[name]
        if name not in reaching and total < (OTHERS_S if reaching else 6 * OTHERS_S):
            others.append(name)
    names = reaching + others
    limit = PATIENCE * sum(survey.seconds[name] for name in names)
    place.write(module, mutant.apply((ROOT / module).read_text()))
    try:
        answer = place.pytest(tests_of(module), [Chosen(names, place.examples)], limit)
    finally:
        place.write(module, (ROOT / module).read_text())
    fate = "hangs" if answer is None else "killed" if answer[0] else "survived"
    if answer is not None and answer[0] == 5:
        raise SystemExit(f"no test of {module} was run")
    return fate, len(reaching), time.perf_counter() - begin


def table(results: dict[str, dict[str, Any]]) -> str:
    """Return the results as Markdown: a row per group of modules, and the survivors."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for result in results.values():
        if result["fate"] == "survived" and key_of(result) in EQUIVALENT:
            result["fate"] = "equivalent"
        counts[GROUPS.get(result["module"], result["module"])][result["fate"]] += 1
    total = sum(counts.values(), Counter())
    lines = ["| modules | mutants | killed | equivalent | survived |", "|---|---|---|---|---|"]
    for group, own in [*counts.items(), ("all", total)]:
        killed = own["killed"] + own["hangs"]
        lines.append(f"| {group} | {own.total()} | {killed} | {own['equivalent']} | {own['survived']} |")
    left = [result for result in results.values() if result["fate"] in ("survived", "equivalent")]
    lines += ["", "| module | change | why it survives |", "|---|---|---|"]
    for result in left:
        change = result["name"].replace("|", "\\|")
        lines.append(f"| `{result['module']}` | `{change}` | {EQUIVALENT.get(key_of(result), '**a gap**')} |")
    return "\n".join(lines)


def key_of(result: dict[str, Any]) -> tuple[str, str]:
    """Return module and name of a mutant, by which `EQUIVALENT` knows it."""
    return result["module"], result["name"]


def main() -> None:
    """Run the mutants, and print a line for each and the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seed", type=int, default=0, help="draws the mutants")
    parser.add_argument("--module", default="", help="part of the names of the modules")
    parser.add_argument("--by-hand", action="store_true", help="run the written mutants instead of drawn ones")
    parser.add_argument("--count", type=int, help="mutants of each module, instead of those in targets.py")
    parser.add_argument("--tests", nargs="+", default=[], help="parts of the names of tests: run no others")
    parser.add_argument("--out", type=Path, help="file for the results")
    parser.add_argument("--examples", type=int, default=100, help="examples of hypothesis; fewer only kill fewer")
    parser.add_argument("--cache", type=Path, help="folder in which times and lines of unchanged tests are kept")
    parser.add_argument("--again", type=Path, help="file of results: run again those that were not killed")
    parser.add_argument("--table", type=Path, nargs="+", help="print the table of these files of results, and end")
    given = parser.parse_args()
    if given.table:
        print(table({key: result for path in given.table for key, result in json.loads(path.read_text()).items()}))
        return
    results = json.loads(given.again.read_text()) if given.again else {}
    for name in LIBRARIES.split():
        with suppress(ImportError):
            importlib.import_module(name)
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        place = Workplace(Path(folder), given.examples)
        for module in [name for name in {**TARGETS, **BY_HAND} if given.module in name]:
            if given.by_hand:
                mutants = by_hand(module)
            else:
                count = TARGETS.get(module, (0, ()))[0] if given.count is None else given.count
                mutants = chosen(module, count, given.seed)
            if given.again:
                names = {r["name"] for r in results.values() if r["module"] == module and r["fate"] == "survived"}
                mutants = [mutant for mutant in mutants if mutant.name in names]
            if not mutants:
                continue
            print(module, flush=True)
            survey = Survey.of(module, surveyed(place, [module], given.cache))
            for mutant in mutants:
                fate, reaching, seconds = is_killed(place, module, mutant, survey, given.tests)
                result = {"module": module, "name": mutant.name, "operator": mutant.operator, "line": mutant.lines[0]}
                results[f"{module}:{mutant.start}:{mutant.name}"] = {**result, "fate": fate, "reaching": reaching}
                print(f"  {fate:10} {mutant.lines[0]:4} {reaching:3} tests {seconds:5.1f} s  {mutant.name}", flush=True)
                if given.out:
                    given.out.write_text(json.dumps(results, indent=1))
    print(table(results))


if __name__ == "__main__":
    main()
