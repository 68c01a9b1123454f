"""What is kept out of records and logs: secrets, and who ran something where.

Secrets come from the command line, the environment and addresses. They are known by their names: `--s3-secret-key`,
`API_TOKEN`, `password=`. Rather too much is taken out than too little.
"""

import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

SECRET = re.compile(r"key|secret|token|passw|credential|signature|account|mail", re.IGNORECASE)
"""In the name of an option or a parameter."""
SECRET_VARIABLE = re.compile(r"key(_|$)|secret|token|passw|credential", re.IGNORECASE)
"""In the name of a variable of the environment."""
LEAST_CHARACTERS = 8
"""Of a variable's value: shorter ones are words."""
OF_ACCOUNT = re.compile(r"(#SBATCH\s+)?(-A|--account|--mail-user)\b")
"""An option of SLURM that says who pays for a job, or who is written to."""
HIDDEN = "***"
IN_ADDRESS = re.compile(r"(?<=://)[^/@\s]+@")
NAMED_VALUE = re.compile(r"(?P<name>[\w.:-]+)=(?P<value>[^\s&,;'\"]+)")
YAML_VALUE = re.compile(r"(?P<name>[\w.-]+)['\"]?: *(?P<value>[^\s,}]+)")


def without_secrets(text: str) -> str:
    """Return a text without the secrets in it.

    >>> without_secrets("s3://me:secret@host/raw.zarr?token=abc, api_key=abc")
    's3://host/raw.zarr?token=***, api_key=***'
    """
    for value in _of_environment():
        text = text.replace(value, HIDDEN)
    return NAMED_VALUE.sub(_hidden, IN_ADDRESS.sub("", text))


def _hidden(match: re.Match[str]) -> str:
    """The match, its value hidden where its name is that of a secret."""
    text: str = match[0]
    return text.removesuffix(match["value"]) + HIDDEN if SECRET.search(match["name"]) else text


def _of_environment() -> Iterator[str]:
    for name, value in os.environ.items():
        if SECRET_VARIABLE.search(name) and len(value) >= LEAST_CHARACTERS and not value.startswith("/"):
            yield value


def command_without_secrets(command: Sequence[str]) -> list[str]:
    """Return a command line without the secrets among its words.

    >>> command_without_secrets(["snakemake", "--s3-secret-key", "abc", "--token=abc", "--config", "password=abc"])
    ['snakemake', '--s3-secret-key', '***', '--token=***', '--config', 'password=***']
    """
    words: list[str] = []
    for word in command:
        after_secret = bool(words) and words[-1].startswith("-") and "=" not in words[-1] and SECRET.search(words[-1])
        words.append(HIDDEN if after_secret and not word.startswith("--") else _word_without_secrets(word))
    return words


def _word_without_secrets(word: str) -> str:
    """The value of a name may hold anything, also blanks: it is hidden up to its end. Another may be YAML."""
    name, is_given, _ = word.partition("=")
    if is_given and SECRET.search(name):
        return f"{name}={HIDDEN}"
    return YAML_VALUE.sub(_hidden, without_secrets(word))


def without_account(slurm: Mapping[str, Any]) -> dict[str, Any]:
    """Return section `slurm` of the configuration without who pays for the jobs, and who is written to.

    >>> without_account({"workers": 2, "account": "lab", "options": ["--account=lab", "-A lab", "--qos=long"]})
    {'workers': 2, 'options': ['--qos=long']}
    """
    kept = {key: value for key, value in slurm.items() if key != "account"}
    return {**kept, "options": [option for option in slurm["options"] if not OF_ACCOUNT.match(option)]}


def without_private(values: Any, root: Path) -> Any:
    """Return the same values with secrets taken out, and paths shortened, in all of their texts.

    Left out is who pays for the jobs of a cluster. Paths below the working directory, the repository `root`, Python and
    the home are told from there.

    >>> without_private({"raw": ["s3://me:secret@host/raw.zarr", "/lab/unet-em/config/a.yaml"]}, Path("/lab/unet-em"))
    {'raw': ['s3://host/raw.zarr', '{repository}/config/a.yaml']}
    """
    if isinstance(values, Mapping):
        return {key: without_private(value, root) for key, value in values.items() if not _is_account(key, value)}
    if isinstance(values, list | tuple):
        return [without_private(value, root) for value in values]
    return _with_short_paths(without_secrets(values), root) if isinstance(values, str) else values


def _is_account(key: str, value: Any) -> bool:
    """Whether it is `slurm.account`, and no volume of that name."""
    return key == "account" and not isinstance(value, Mapping)


def _with_short_paths(text: str, root: Path) -> str:
    for folder, name in ((Path.cwd(), "."), (root, "{repository}"), (Path(sys.prefix), "{python}"), (Path.home(), "~")):
        text = re.sub(rf"{re.escape(str(folder))}(?=/|$)", name, text) if folder != Path("/") else text
    return text
