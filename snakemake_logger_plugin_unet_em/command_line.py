"""What is wrong with the command line before Snakemake reads the files that it names.

Snakemake reads configuration files and `--config` before the Snakefile. It answers a missing file and a wrong entry
with a traceback, and a file that is no YAML without a line. This runs when the logger is made: no other code of a
workflow is asked before that.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from unet.config.root import ConfigError
from unet.config.yaml_file import read_config_file

TARGETS = ("all", "plan", "verify", "augmentation", "export", "sample")
"""What a user asks for by name, beside files."""


def problem_of(arguments: Sequence[str]) -> str | None:
    """What makes the configuration of a command line unusable, in words; None if nothing does.

    Parameters
    ----------
    arguments
        Words of the command line after `snakemake`.
    """
    problems = [_problem_of_file(word) for word in words_of("--configfiles?", arguments)]
    problems += [_problem_of_entry(word) for word in words_of("--config|-C", arguments)]
    return next(filter(None, problems), None)


def _problem_of_file(word: str) -> str | None:
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


def _problem_of_entry(word: str) -> str | None:
    """What is wrong with a word after `--config`.

    >>> _problem_of_entry("train.steps=5")
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


def words_of(option: str, arguments: Sequence[str]) -> list[str]:
    """The words that Snakemake takes for an option of any number of words.

    >>> words_of("--configfiles?", ["-n", "--configfile", "a.yaml", "plan", "--cores", "2", "--configfiles=b.yaml"])
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
