"""Wrong options of Snakemake: one sentence with the word that is wrong; what Snakemake takes is left alone."""

from pathlib import Path

import pytest
from snakemake.exceptions import CliException

from snakemake_logger_plugin_unet_em.options import options_problem, profile_problem, refuse_wrong_options

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("--foo", "--foo: there is no such option; did you mean"),
        ("-n --confgfile=mine.yaml", "--confgfile=mine.yaml: there is no such option; did you mean --configfile?"),
        ("--set-threads train", "--set-threads train: write RULE=THREADS, as --set-threads train=4"),
        ("--set-threads train=x", "--set-threads train=x: write RULE=THREADS"),
        (
            "--set-threads train=4 plan",
            "--set-threads plan: write RULE=THREADS, as --set-threads train=4;",
        ),
        (
            "--set-resources a=b",
            "--set-resources a=b: write RULE:RESOURCE=VALUE, as --set-resources train:mem",
        ),
        ("--default-resources=mem", "--default-resources mem: write RESOURCE=VALUE, as mem_mb=4000"),
        ("--resources gpu=x", "'gpu' was given value 'x', which is not an integer"),
        ("--cores x", "--cores x: write a whole number of cores, as --cores 4, or all"),
        ("-j many", "--jobs many: write a whole number of jobs"),
        ("--retries x", "--retries/--restart-times/-T: invalid int value: 'x'"),
        ("--until", "argument --until/-U: expected at least one argument"),
        ("--executor slrum", "invalid choice: 'slrum' (choose from 'slurm'"),
        ("plan --cores 2 verify", "verify: name all that is to be made side by side"),
    ],
)
def test_a_word_that_snakemake_cannot_read_is_told_in_one_sentence(words: str, wanted: str) -> None:
    said = str(options_problem(words.split()))
    assert wanted in said
    assert "\n" not in said


@pytest.mark.parametrize(
    "words",
    [
        "--cores all --configfile mine.yaml",
        "-n plan verify --cores 2 --config results=x",
        "--set-threads train=4 predict=max(1,2) --set-resources train:mem_mb=16000 --resources gpu=2 mem=4GB",
        "-c4 -j unlimited --workflow-profile slurm --logger-of-another-plugin 3",
        "--cores 2 -- plan --a-file-of-this-name",
        "--cores=0",
    ],
)
def test_what_snakemake_takes_is_left_alone(words: str) -> None:
    assert options_problem(words.split()) is None


def test_a_profile_that_is_not_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "--workflow-profile mine: there is no such profile" in str(profile_problem(["--workflow-profile", "mine"]))
    (tmp_path / "mine").mkdir()
    for name in ("mine", "slurm", "none", str(ROOT / "workflow/profiles/default")):
        assert profile_problem([f"--workflow-profile={name}"]) is None
    said = str(profile_problem(["--profile", "nope"]))
    assert said.startswith("--profile nope: there is no such profile, which is a folder with a file config.yaml")
    assert "--workflow-profile workflow/profiles/default" in str(profile_problem(["--profile=default"]))
    (tmp_path / "mine/config.yaml").write_text("cores: 2")
    assert profile_problem(["--profile", "mine"]) is None


def test_only_a_start_of_this_workflow_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(CliException, match="--foo: there is no such option"):
        refuse_wrong_options(["/env/bin/snakemake", "--foo"])
    for arguments in (["pytest", "--foo"], ["snakemake", "--foo", "--help"], ["snakemake", "--mode", "subprocess"]):
        refuse_wrong_options(arguments)
    monkeypatch.chdir(tmp_path)
    refuse_wrong_options(["snakemake", "--foo"])
    (tmp_path / "Snakefile").write_text("")
    refuse_wrong_options(["snakemake", "--foo"])
    with pytest.raises(CliException, match="--foo: there is no such option"):
        refuse_wrong_options(["snakemake", "--foo", "-s", str(ROOT / "workflow/Snakefile")])
