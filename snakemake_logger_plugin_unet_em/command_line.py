"""Check the options `--configfile` and `--config` before Snakemake reads them.

Snakemake reads configuration files and `--config` before the Snakefile. It answers a missing file or a wrong entry
with a traceback, and invalid YAML without a line number. This check runs when Snakemake creates the logger: no other
code of a workflow runs earlier.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from unet.config.root import ConfigError
from unet.config.yaml_file import read_config_file

TARGETS = (
    *("all", "plan", "verify", "augmentation_preview", "sample", "view", "objects", "meshes", "skeletons"),
    *("export", "export_tiff", "export_precomputed", "export_webknossos"),
)
"""Targets that a user can ask for by name; all others are files."""


def command_line_problem(arguments: Sequence[str]) -> str | None:
    """Return the first problem of the configuration that a command line gives; None if there is none.

    Parameters
    ----------
    arguments
        Words of the command line after `snakemake`.
    """
    problems = [_configfile_problem(word) for word in option_values("--configfiles?", arguments)]
    problems += [_config_entry_problem(word) for word in option_values("--config|-C", arguments)]
    return next(filter(None, problems), None)


def _configfile_problem(word: str) -> str | None:
    path = Path(word)
    if not path.exists() and (word in TARGETS or not path.suffix):
        return (
            f"{word} is read as a configuration file, and there is no such file: --configfile takes every word "
            f"that follows it. Name what is to be made first: snakemake {word} --configfile ..."
        )
    try:
        read_config_file(path)
    except ConfigError as error:
        return str(error)
    return None


def _config_entry_problem(word: str) -> str | None:
    """Return the problem of a word after `--config`; None if there is none.

    >>> _config_entry_problem("train.steps=5")
    "--config train.steps=5: a key inside a section is written --config 'train={steps: 5}'"
    """
    key, equals, value = word.partition("=")
    *sections, name = re.split(r"[.:]", key)
    if equals and re.fullmatch(r"[a-zA-Z_][\w-]*\w", key):
        return None
    if equals and sections and all(sections) and name:
        inside = "".join(f"{{{one}: " for one in (*sections[1:], name)) + value + "}" * len(sections)
        return f"--config {word}: a key inside a section is written --config '{sections[0]}={inside}'"
    return (
        f"--config {word}: this is no KEY=VALUE, as results=run2 or 'train={{steps: 5}}'; put quotes around what holds "
        "spaces, and name what is to be made before --config"
    )


def option_values(option: str, arguments: Sequence[str]) -> list[str]:
    """Return the words that Snakemake takes as values of an option, which takes any number of words.

    Parameters
    ----------
    option
        Regular expression that matches the option's names.
    arguments
        Words of the command line after `snakemake`.

    >>> option_values("--configfiles?", ["-n", "--configfile", "a.yaml", "plan", "--cores", "2", "--configfile=b.yaml"])
    ['a.yaml', 'plan', 'b.yaml']
    """
    found: list[str] = []
    taking = False
    for word in arguments:
        matched = re.fullmatch(rf"(?:{option})(?:=(.*))?", word, re.DOTALL)
        if matched:
            taking = matched[1] is None
            found += [] if taking else [matched[1]]
        elif word.startswith("-"):
            taking = False
        elif taking:
            found.append(word)
    return found
