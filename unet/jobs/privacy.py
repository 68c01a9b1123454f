"""Remove secrets and personal data from records and logs: passwords, accounts, and folders of this machine.

Secrets come from the command line, the environment and addresses. They are recognised by their names:
`--s3-secret-key`, `API_TOKEN`, `password=`. In doubt a value is removed.
"""

import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

SHORT_NAMES = "pass|passphrase|pwd|pat|sas|sig|auth"
SECRET = re.compile(
    rf"key|secret|token|passw|credential|signature|account|mail|authorization|(^|[-_.])({SHORT_NAMES})$", re.IGNORECASE
)
"""Pattern in the name of an option or a parameter that holds a secret."""
SECRET_VARIABLE = re.compile(
    rf"key(_|$)|secret|token|passw|credential|connection_string|(^|_)({SHORT_NAMES})$", re.IGNORECASE
)
"""Pattern in the name of an environment variable that holds a secret."""
MIN_SECRET_LENGTH = 8
"""Characters of an environment variable's value; a shorter value is an ordinary word."""
ACCOUNT_OPTION = re.compile(r"(#SBATCH\s+)?(-A|--account|--mail-user)\b")
"""Options of SLURM with the account that pays for a job, or the address that gets its mail."""
HIDDEN = "***"
ADDRESS_CREDENTIALS = re.compile(r"(?<=://)[^/\s'\"]+@")
HEADER = re.compile(
    r"(?P<name>\b(?:authorization['\"]?\s*[:=]\s*['\"]?(?:bearer|basic|token)?|bearer)\s+)[\w.~+/=-]{6,}", re.IGNORECASE
)
"""Credentials in a header of a request."""
QUOTED_VALUE = re.compile(r"(?P<name>(['\"])[\w.-]+\2)(?P<between>\s*:\s*)(?P<quote>['\"])(?P<value>.*?)(?P=quote)")
"""Key and value of a printed mapping, as JSON and Python write it."""
NAMED_VALUE = re.compile(r"(?P<name>[\w.:-]+)=(?P<value>[^\s&,;'\"]+)")
YAML_VALUE = re.compile(r"(?P<name>[\w.-]+)['\"]?: *(?P<value>[^\s,}]+)")


def without_secrets(text: str) -> str:
    """Return a text without the secrets in it.

    >>> without_secrets("s3://me:secret@host/raw.zarr?token=abc, api_key=abc")
    's3://host/raw.zarr?token=***, api_key=***'
    """
    for value in _secrets_of_environment():
        text = text.replace(value, HIDDEN)
    text = QUOTED_VALUE.sub(_hide_quoted, HEADER.sub(rf"\g<name>{HIDDEN}", ADDRESS_CREDENTIALS.sub("", text)))
    return NAMED_VALUE.sub(_hide_value, text)


def _hide_quoted(match: re.Match[str]) -> str:
    """Return an entry of a printed mapping; its value is hidden if its key is that of a secret."""
    quote, hidden = match["quote"], SECRET.search(match["name"][1:-1])
    return f"{match['name']}{match['between']}{quote}{HIDDEN}{quote}" if hidden else match[0]


def _hide_value(match: re.Match[str]) -> str:
    """Return the text of a match; its value is hidden if its name is that of a secret."""
    text: str = match[0]
    return text.removesuffix(match["value"]) + HIDDEN if SECRET.search(match["name"]) else text


def _secrets_of_environment() -> Iterator[str]:
    for name, value in os.environ.items():
        if SECRET_VARIABLE.search(name) and len(value) >= MIN_SECRET_LENGTH and not value.startswith("/"):
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
    """Return a word without secrets.

    The value after a secret's name may contain anything, also blanks, and is hidden up to its end. Any other value may
    be YAML, and is searched.
    """
    name, is_given, _ = word.partition("=")
    if is_given and SECRET.search(name):
        return f"{name}={HIDDEN}"
    return YAML_VALUE.sub(_hide_value, without_secrets(word))


def without_account(slurm: Mapping[str, Any]) -> dict[str, Any]:
    """Return section `slurm` of the configuration without the account that pays, and without mail addresses.

    >>> without_account({"workers": 2, "account": "lab", "options": ["--account=lab", "-A lab", "--qos=long"]})
    {'workers': 2, 'options': ['--qos=long']}
    """
    kept = {key: value for key, value in slurm.items() if key != "account"}
    return {**kept, "options": [option for option in slurm["options"] if not ACCOUNT_OPTION.match(option)]}


def without_private(values: Any, root: Path) -> Any:
    """Return the same values without secrets, and with short paths, in all texts.

    The account that pays for the jobs of a cluster is left out. A path below the working directory, the repository
    `root`, Python's folder or the home folder is written relative to that folder.

    >>> without_private({"raw": ["s3://me:secret@host/raw.zarr", "/lab/unet-em/config/a.yaml"]}, Path("/lab/unet-em"))
    {'raw': ['s3://host/raw.zarr', '{repository}/config/a.yaml']}
    """
    if isinstance(values, Mapping):
        return {key: without_private(value, root) for key, value in values.items() if not _is_account(key, value)}
    if isinstance(values, list | tuple):
        return [without_private(value, root) for value in values]
    return _with_short_paths(without_secrets(values), root) if isinstance(values, str) else values


def _is_account(key: str, value: Any) -> bool:
    """Tell whether an entry is `slurm.account`; a volume of that name is a mapping."""
    return key == "account" and not isinstance(value, Mapping)


def _with_short_paths(text: str, root: Path) -> str:
    for folder, name in ((Path.cwd(), "."), (root, "{repository}"), (Path(sys.prefix), "{python}"), (Path.home(), "~")):
        text = re.sub(rf"{re.escape(str(folder))}(?=/|$)", name, text) if folder != Path("/") else text
    return text
