"""What is wrong with the command line before Snakemake reads the files that it names.

Snakemake reads configuration files before the Snakefile. It answers a missing one with a traceback, and one that is no
YAML without a line. This runs when the logger is made: no other code of a workflow is asked before that.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from unet.config.root import ConfigError
from unet.config.yaml_file import read_config_file

TARGETS = ("all", "plan", "verify", "augmentation", "export", "sample")
"""What a user asks for by name, beside files."""


def problem_of(arguments: Sequence[str]) -> str | None:
    """What makes the configuration files of a command line unusable, in words; None if nothing does.

    Parameters
    ----------
    arguments
        Words of the command line after `snakemake`.
    """
    for word in _config_files(arguments):
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


def _config_files(arguments: Sequence[str]) -> list[str]:
    """The words that Snakemake takes as configuration files.

    >>> _config_files(["-n", "--configfile", "a.yaml", "plan", "--cores", "2", "--configfiles=b.yaml"])
    ['a.yaml', 'plan', 'b.yaml']
    """
    found: list[str] = []
    taking = False
    for word in arguments:
        option = re.fullmatch(r"--configfiles?(?:=(.*))?", word)
        if option:
            taking = option[1] is None
            found += [] if taking else [option[1]]
        elif word.startswith("-"):
            taking = False
        elif taking:
            found.append(word)
    return found
