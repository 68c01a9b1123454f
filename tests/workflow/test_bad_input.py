"""Bad input of the command line, paths and YAML: one sentence that says what, where and what to do; no traceback."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING

import pytest

from snakemake_logger_plugin_unet_em.command_line import TARGETS, command_line_problem
from tests.workflow.snakemake_process import SnakemakeProcess
from unet.config.root import ConfigError
from unet.config.yaml_file import read_config_file, with_line_numbers
from unet.run import preconditions
from unet.run.preconditions import (
    problem_of_cores,
    problem_of_executor,
    problem_of_folder,
    problem_of_input,
    problem_of_rules,
    problem_of_workers,
)

if TYPE_CHECKING:
    from tests.workflow.conftest import Project

ROOT = Path(__file__).parents[2]
LINES = 6

FILES: dict[str, tuple[bytes, str]] = {
    "a tab": (b"volumes:\n\ta: 1\n", "line 2, column 1: a tab; YAML is indented with spaces"),
    "a tab after spaces": (b"a:\n  b: 1\n\tc: 2\n", "line 3, column 1: a tab"),
    "a bracket": (b"a: [1, 2\nb: 3\n", "line 2, column 2: expected ',' or ']'"),
    "a quote": (b'a: "x\nb: 3\n', "begins on line 1; is a quote or a bracket never closed?"),
    "an indent": (b"a: 1\n  b: 2\n", "line 2, column 4: mapping values are not allowed here; is a line above"),
    "an @": (b"a: @x\n", "line 1, column 4: found character '@' that cannot start any token; put the text in quotes"),
    "no text": (b"a: \xff\n", "no text in UTF-8 (byte 3); save it as UTF-8"),
    "empty": (b"# nothing\n", "the configuration file is empty"),
    "two documents": (b"a: 1\n---\nb: 2\n", "line 2, column 1: but found another document"),
    "a tag of Python": (b"a: !!python/object/apply:os.system [x]\n", "column 4: could not determine a constructor"),
    "a star": (b"a: *.tif\n", "put a text that begins with * or & in quotes"),
    "TOML": (b"[volumes]\nraw = 1\n", "a configuration is YAML, `key: value`"),
    "bytes": (b"a: 1\n\x00\x01", "no text that YAML allows (unacceptable character"),
    "a list": (b"- a\n", "a configuration is `key: value` at its top, as volumes:, but this is a list"),
    "a key twice": (b"volumes:\n  a: {raw: x}\n  a: {raw: y}\n", "line 3, column 3: the key 'a' is repeated"),
    "a section twice": (b"train: {}\npredict: {}\ntrain: {}\n", "it is already on line 1"),
    "an octal number": (b"train: {steps: 060}\n", "line 1, column 16: YAML reads 060 as 48; write 48 if that is meant"),
    "a negative octal number": (
        b"a: -012\n",
        "-012 as -10; write -10 if that is meant, else leave out the 0 at",
    ),
    "minutes": (
        b"a: [1:30]\n",
        "column 5: YAML reads 1:30 as 90; write 90 if that is meant, else put it in quotes",
    ),
    "minutes with a fraction": (b"a: 1:30.5\n", "YAML reads 1:30.5 as 90.5"),
    "a date": (b"a: 2026-01-02\n", "YAML reads 2026-01-02 as a date; put it in quotes"),
    "a key that is true": (b"volumes:\n  on: {raw: x}\n", "line 2, column 3: YAML reads the key on as True, but a key"),
    "a key that is a number": (b"volumes: {7: {raw: x}}\n", "YAML reads the key 7 as 7, but a key is a text"),
    "a key that is nothing": (b"volumes: {null: {raw: x}}\n", "YAML reads the key null as None"),
    "a section in itself": (b"a: &v {b: *v}\n", "a section contains itself: *NAME stands inside of what &NAME marks"),
    "a list in itself": (b"a: &v [1, [*v]]\n", "a section contains itself"),
    "a deep nest": (b"a: " + b"[" * 5000 + b"]" * 5000, "nested too deeply for a configuration"),
    "a key of JSON twice": (b'{"a": 1,\n\t"a": 2}', "line 2, column 2: the key 'a' is repeated"),
}


@pytest.mark.parametrize("problem", FILES)
def test_a_configuration_file_that_cannot_be_read_has_file_line_and_column(tmp_path: Path, problem: str) -> None:
    content, wanted = FILES[problem]
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as refused:
        read_config_file(path)
    assert str(refused.value).startswith(str(path))
    assert wanted in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_wrong_key_is_told_with_the_file_and_line_where_it_stands(tmp_path: Path) -> None:
    first, second = tmp_path / "a.yaml", tmp_path / "b.json"
    first.write_text("volumes:\n  em:\n    raw: [a.tif,\n      b.tif]\ntrain:\n  steps: 0\n")
    second.write_text('{"train":\n\t{"steps": 1}}')
    told = {
        "volumes.em.raw.1: got 2": f"{first}, line 4: volumes.em.raw.1: got 2",
        "volumes.em: raw is missing": f"{first}, line 2: volumes.em: raw is missing",
        "volumes.em.lables: unknown key": f"{first}, line 2: volumes.em.lables: unknown key",
        "train.steps: got 0": f"{second}, line 2: train.steps: got 0",  # the later file counts
        "predict.tile: got 0": "--config, predict.tile: got 0",
        "segment.threshold: got 0": "segment.threshold: got 0",  # a default
        "no key at all": "no key at all",
    }
    message = with_line_numbers("\n".join(told), [first, second], given=["predict"])
    assert message.splitlines() == list(told.values())


def test_numbers_and_shared_sections_are_read_as_people_write_them(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("a: &a {b: 0, c: 0.5, d: 1e-3}\ne: {<<: *a, c: -10}\nf: [*a, *a]\ng: '060'\nh: 0x10\ni: 1_000\n")
    shared = {"b": 0, "c": 0.5, "d": "1e-3"}
    wanted = {"a": shared, "e": shared | {"c": -10}, "f": [shared, shared], "g": "060", "h": 16, "i": 1000}
    assert read_config_file(path) == wanted


def test_json_may_be_indented_with_tabs(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text('{\n\t"volumes": {\n\t\t"a": {"raw": "x"}\n\t}\n}\n')
    assert read_config_file(path) == {"volumes": {"a": {"raw": "x"}}}


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["--configfile", "nope.yaml"], "nope.yaml: there is no such configuration file; paths count from"),
        (["--configfile=nope.yaml", "-n"], "nope.yaml: there is no such configuration file"),
        (["--configfile", "mine.yaml", "plan"], "plan is read as a configuration file, and there is no such file"),
        (["--configfiles", "mine.yaml", "verify", "-n"], "first: snakemake verify --configfile"),
        (["--configfile", "."], "the configuration file cannot be read (Is a directory); name a file in it"),
        (["--config", "a.b.c=5"], "a key inside a section is written --config 'a={b: {c: 5}}'"),
        (["-C", "results=run", "train:steps=5"], "is written --config 'train={steps: 5}'"),
        (["--config", "predict={tile:", "48}"], "--config 48}: this is no KEY=VALUE, as results=run2"),
        (["--config=results"], "--config results: this is no KEY=VALUE"),
    ],
)
def test_words_after_configfile_and_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], wanted: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text("volumes: {}\n")
    assert wanted in str(command_line_problem(arguments))
    assert command_line_problem(["--config", "results=a b", "train={steps: 5}", "--cores", "2"]) is None
    assert command_line_problem(["plan", "-n", "--configfile", "mine.yaml", "--cores", "2"]) is None


def test_targets_that_are_offered_are_rules() -> None:
    text = "".join(path.read_text() for path in (ROOT / "workflow").rglob("*.smk"))
    text += (ROOT / "workflow/Snakefile").read_text()
    assert [name for name in TARGETS if f"rule {name}:" not in text] == []


@pytest.mark.parametrize(
    ("cores", "jobs", "wanted"),
    [(0, None, "--cores is 0"), (None, 0, "--jobs is 0"), (8, None, None), (None, 100, None)],
)
def test_no_cores(cores: int | None, jobs: int | None, wanted: str | None) -> None:
    assert str(wanted) in str(problem_of_cores(cores, jobs))


def test_a_rule_that_is_not_there_is_named_with_the_option() -> None:
    said = problem_of_rules({"--omit-from": ["results/a.json", "trian"]}, ["survey", "train"])
    assert said == "--omit-from: no rule is called trian; did you mean train? The rules are survey, train"
    assert problem_of_rules({"--set-threads": ["train"]}, ["survey", "train"]) is None


def test_slurm_is_asked_only_where_it_will_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "predict.workers: slurm needs SLURM, but there is no sbatch on this machine" in str(
        problem_of_workers("slurm", {"survey", "predict"})
    )
    assert "executor slurm: there is no sbatch on this machine; start" in str(problem_of_executor("slurm", {"survey"}))
    assert problem_of_workers("slurm", {"report"}) is problem_of_workers("local", {"predict"}) is None
    assert problem_of_executor("slurm", set()) is problem_of_executor("local", {"predict"}) is None


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        ("exit 0", None),
        ("echo sinfo: error: lookup failed >&2; echo sinfo: fatal: no source >&2; exit 1", "(sinfo: fatal: no source)"),
        ("exit 3", "no cluster answers SLURM's commands on this machine (sinfo: 3); start the run on a login node"),
        ("exec sleep 60", "SLURM's controller has not answered sinfo within 0.5 s; start the run on a login node"),
    ],
)
def test_what_sinfo_says_where_no_cluster_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, wanted: str | None
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    if "sleep" in answer:
        monkeypatch.setattr(preconditions, "SLURM_PATIENCE", 0.5)
    for name in ("sbatch", "sinfo"):
        (tmp_path / name).write_text(f"#!/bin/sh\n{answer}\n")
        (tmp_path / name).chmod(0o755)
    for problem in (problem_of_executor("slurm", {"survey"}), problem_of_workers("slurm", {"predict"})):
        assert problem is None if wanted is None else wanted in str(problem)


def test_an_input_that_cannot_be_read_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, link = tmp_path / "labels.tif", tmp_path / "link.tif"
    file.write_text("")
    link.symlink_to(tmp_path / "gone.tif")
    assert problem_of_input("volumes.em.labels", file) is None
    said = problem_of_input("volumes.em.labels", tmp_path / "lables.tif")
    assert said == f"volumes.em.labels: {tmp_path}/lables.tif is not there; did you mean {file}?"
    assert f"there is no data in the folder {tmp_path}" in str(problem_of_input("k", tmp_path / "data/raw.tif"))
    assert f"it is a link to {tmp_path}/gone.tif, which is not there" in str(problem_of_input("k", link))
    assert "*.tif is not there; patterns are read only for images" in str(problem_of_input("k", tmp_path / "*.tif"))
    assert "k: /dev/null is neither a file nor a folder" in str(problem_of_input("k", Path("/dev/null")))
    assert "labels.tif/inner is not there" in str(problem_of_input("k", file / "inner"))
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert f"k: you may not read {file}; ask its owner" in str(problem_of_input("k", file))


def test_results_are_a_folder_that_can_be_written(tmp_path: Path) -> None:
    file, link, fine = tmp_path / "file", tmp_path / "link", tmp_path / "new/run"
    file.write_text("")
    link.symlink_to(tmp_path / "nothing")
    assert f"results: {file} cannot be a folder, since it is a file" in str(problem_of_folder("results", file, False))
    assert f"since {file}, above it, is a file" in str(problem_of_folder("results", file / "a/b", False))
    assert "a link to nothing" in str(problem_of_folder("results", link, False))
    unwritable = Path("/proc/unet-em/run")
    assert "nothing can be written in /proc/unet-em/run" in str(problem_of_folder("results", unwritable, True))
    assert problem_of_folder("results", unwritable, False) is None  # a dry run tries nothing
    assert problem_of_folder("results", fine, True) is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "link"]


# What only Snakemake itself can show, each started once, two at a time

COMMANDS: dict[str, tuple[list[str], str]] = {
    "a file that is not there": (["-n", "--configfile", "nope.yaml"], "nope.yaml: there is no such configuration file"),
    "a key twice": (
        ["-n", "--configfile", "twice.yaml"],
        "twice.yaml, line 2, column 1: the key 'volumes' is repeated",
    ),
    "an unknown target": (
        ["-n", "plann", "--configfile", "config.yaml"],
        "nothing makes this; did you mean plan?",
    ),
    "an unknown option": (
        ["--cofigfile", "config.yaml"],
        "--cofigfile: there is no such option; did you",
    ),
    "no cores": (["--cores", "0", "--configfile", "config.yaml"], "--cores is 0, but a job needs at least 1"),
    "results below a file": (
        ["--configfile", "config.yaml", "--config", "results=input/raw.tif/run"],
        "input/raw.tif, above it, is a file; name another folder",
    ),
    "results that cannot be written": (
        ["--configfile", "config.yaml", "--config", "results=/proc/unet-em/run"],
        "results: nothing can be written in /proc/unet-em/run",
    ),
    "a rule as target": (["predict", "--configfile", "config.yaml"], "A rule that makes a file of each volume is no"),
    "a volume that is not there": (
        ["results/receipts/survey/nope.json", "--configfile", "config.yaml"],
        "results/receipts/survey/nope.json: nothing makes this",
    ),
    "a rule of an option": (
        ["-n", "--set-threads", "trian=1", "--configfile", "config.yaml"],
        "--set-threads: no rule is called trian; did you mean train?",
    ),
    "no volumes": (
        ["-n", "--configfile", "part.yaml"],
        "volumes: none is configured; name at least one with its image file",
    ),
    "a file of another name": (
        ["-n", "--configfile", "absent.yaml"],
        "absent.yaml, line 1: volumes.train.raw: input/rwa.tif is not there; did you mean input/raw.tif?",
    ),
    "a wrong value": (["-n", "--configfile", "wrong.yaml"], "wrong.yaml, line 2: train.steps: got 0; it has to be a"),
    "workers on a machine without SLURM": (
        ["--configfile", "config.yaml", "--config", "predict={workers: slurm}"],
        "predict.workers: slurm needs SLURM, but there is no sbatch on this machine",
    ),
    "a cluster from a machine without SLURM": (
        ["--executor", "slurm", "--jobs", "2", "--nolock", "--configfile", "config.yaml"],
        "executor slurm: there is no sbatch on this machine; start the run on a login node of a cluster",
    ),
    "an unknown key": (
        ["-n", "--configfile", "config.yaml", "--config", "predict={tiel: 48}"],
        "predict.tiel: unknown key; did you mean tile?",
    ),
}


@pytest.fixture(scope="module")
def answers(shared_project: Project) -> dict[str, tuple[int, str]]:
    """Exit status and output of each of `COMMANDS`."""
    project = shared_project
    volume = "{train: {raw: input/rwa.tif, labels: input/labels.tif}}"
    for name, text in (
        ("twice", "volumes: {a: {raw: x}}\nvolumes: {b: {raw: y}}\n"),
        ("part", "results: run2\n"),
        ("absent", f"volumes: {volume}\n"),
        ("wrong", f"volumes: {volume}\ntrain: {{steps: 0}}\n"),
    ):
        (project.folder / f"{name}.yaml").write_text(text)

    programs = project.folder / "programs"
    programs.mkdir()
    for name in ("bash", "sh", "which"):  # all that Snakemake and its plugins want; in particular no sbatch
        (programs / name).symlink_to(which(name) or "/bin/sh")

    def answer(words: list[str]) -> tuple[int, str]:
        """Snakemake with these words alone, beside the Snakefile."""
        fixed = ["--snakefile", str(ROOT / "workflow/Snakefile"), *([] if "--cores" in words else ["--cores", "2"])]
        environment = os.environ | {"PATH": str(programs)}
        running = SnakemakeProcess([*words, *fixed], project.folder, ROOT, environment)
        said, _ = running.communicate(timeout=600)
        return running.wait(), said

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(COMMANDS, pool.map(answer, [words for words, _ in COMMANDS.values()]), strict=True))


@pytest.mark.parametrize("problem", COMMANDS)
def test_a_command_that_cannot_work_is_answered_by_a_sentence(
    answers: dict[str, tuple[int, str]], problem: str
) -> None:
    status, output = answers[problem]
    assert status != 0, output
    assert COMMANDS[problem][1] in output
    assert "Traceback" not in output
    assert len(output.splitlines()) <= LINES, output
