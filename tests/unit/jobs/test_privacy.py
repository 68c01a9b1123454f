"""No secret and no account reaches a record or a log."""

import json
import logging
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from unet.config.root import load_config
from unet.jobs.privacy import command_without_secrets, without_private, without_secrets
from unet.jobs.script import run_script
from unet.run.provenance import configuration_text

ROOT = Path("/lab/unet-em")
SAMPLE = Path(__file__).parents[3] / "config" / "config.yaml"


@pytest.mark.parametrize(
    "words",
    [
        ["--storage-s3-secret-key", "AKIAsecret"],
        ["--storage-s3-access-key=AKIAsecret"],
        ["--api-token", "AKIAsecret"],
        ["--password", "AKIAsecret"],
        ["--smtp-passwd", "AKIAsecret"],
        ["--config", "server.password=AKIAsecret with blanks"],
        ["--config", "server={address: a, token: AKIAsecret}"],
        ["--config", 'server={"secret": "AKIAsecret"}'],
        ["--default-resources", "slurm_account=AKIAsecret"],
        ["--configfile", "https://me:AKIAsecret@host/a.yaml"],
        ["--configfile", "https://host/a.yaml?X-Amz-Signature=AKIAsecret&part=1"],
    ],
    ids=" ".join,
)
def test_a_secret_on_the_command_line_is_hidden(words: list[str]) -> None:
    found = command_without_secrets(["snakemake", "--cores", "2", *words, "--keep-going", "all"])
    assert "AKIAsecret" not in " ".join(found)
    assert "blanks" not in " ".join(found)
    assert found[:3] + found[-2:] == ["snakemake", "--cores", "2", "--keep-going", "all"]
    assert words[0].partition("=")[0] in found[3]


def test_a_command_without_secrets_is_kept_as_it_is() -> None:
    command = "snakemake --cores 8 --resources gpu=2 -k --set-threads train=4 --configfile a.yaml results/report.html"
    assert command_without_secrets(command.split()) == command.split()


@pytest.mark.parametrize(
    "name",
    ["AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "GITHUB_TOKEN", "DB_PASSWORD", "APIKEY", "DB_PASS", "GITHUB_PAT"],
)
def test_a_secret_of_the_environment_is_hidden_wherever_it_stands(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "AKIA0123456")
    assert without_secrets("<AWSAccessKeyId>AKIA0123456</AWSAccessKeyId>") == "<AWSAccessKeyId>***</AWSAccessKeyId>"
    assert without_private({"a": ["of AKIA0123456"]}, ROOT) == {"a": ["of ***"]}


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("s3://me:AKIA@secret@host/raw", "s3://host/raw"),
        ("https://host/a?sv=2024&sig=AKIA%2Fsecret&part=1", "https://host/a?sv=2024&sig=***&part=1"),
        ("Authorization: Bearer AKIAsecret, next", "Authorization: Bearer ***, next"),
        ("{'Authorization': 'Basic QUtJQXNlY3JldA=='}", "{'Authorization': '***'}"),
        ("got {'user': 'me', 'secret_key': 'AKIAsecret'}", "got {'user': 'me', 'secret_key': '***'}"),
        ('{"api-token": "AKIA secret", "n": 2}', '{"api-token": "***", "n": 2}'),
        ("DB_PASS=AKIAsecret sigma=2.5 passes=3", "DB_PASS=*** sigma=2.5 passes=3"),
        ("https://host/a@2x.png 'raw': 'a.tif'", "https://host/a@2x.png 'raw': 'a.tif'"),
    ],
)
def test_a_secret_in_a_text_is_hidden_in_every_usual_form(text: str, kept: str) -> None:
    assert without_secrets(text) == kept


def test_other_variables_and_short_words_are_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "KEYBOARD": "qwertzuiop",
        "KEY": "train",
        "KEY_FILE": "/lab/key.pem",
        "USER": "somebody",
    }.items():
        monkeypatch.setenv(name, value)
    assert without_secrets("qwertzuiop train /lab/key.pem somebody") == "qwertzuiop train /lab/key.pem somebody"


def test_who_pays_is_left_out_but_no_volume_of_that_name() -> None:
    record = {
        "slurm": {"account": "lab", "workers": 2, "options": ["--account=lab", "--qos=long"]},
        "volumes": {"account": {}},
    }
    kept = {"slurm": {"workers": 2, "options": ["--account=***", "--qos=long"]}, "volumes": {"account": {}}}
    assert without_private(record, ROOT) == kept


def test_a_log_has_no_secret_not_in_a_traceback_either(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "AKIA0123456")

    def main() -> None:
        logging.getLogger("unet").info("asked https://me:hidden@host/a?token=AKIA0123456")
        raise KeyError("<Secret>AKIA0123456</Secret>")

    log = tmp_path / "job.log"
    with pytest.raises(KeyError):
        run_script(main, SimpleNamespace(input={}, output={}, params={}, log=[str(log)], threads=1))
    assert "Traceback" in log.read_text()
    assert "asked https://host/a?token=***" in log.read_text()
    assert "AKIA0123456" not in log.read_text()
    assert json.loads((tmp_path / "job.json").read_text()) == {}


def test_the_configuration_that_is_kept_says_not_who_pays() -> None:
    slurm = {"account": "the-lab", "workers": 3, "options": ["--account=the-lab", "--mail-user=me@the-lab", "--qos=a"]}
    text = configuration_text(load_config({**yaml.safe_load(SAMPLE.read_text()), "slurm": slurm}))
    assert "the-lab" not in text
    again = load_config(yaml.safe_load(text)).slurm
    assert (again.account, again.workers, again.options) == (None, 3, ["--qos=a"])
