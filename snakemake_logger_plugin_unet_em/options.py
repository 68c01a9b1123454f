"""Check the options of a command line before Snakemake reads them.

Snakemake answers an option that it cannot read with 115 lines of usage, or with a traceback. No code of a workflow
runs before Snakemake reads its options. Only plugins do: Snakemake imports every logger plugin in order to add the
options of the plugin. The package of this plugin calls `refuse_wrong_options` at that moment. The check asks a parser
of Snakemake's own for its answer, and says the answer in one sentence. A command line that Snakemake takes is left
alone, and so is every workflow but this one.
"""

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn

from snakemake.exceptions import CliException, WorkflowError

from snakemake_logger_plugin_unet_em.command_line import option_values

SNAKEFILE = Path(__file__).parents[1] / "workflow/Snakefile"
ASKS_FOR_HELP = {"-h", "--help", "--version", "-v"}
ALL_OPTIONS = "snakemake --help lists all options"
NAME_FIRST = "name what is to be made before the option"

MANY_VALUES = {
    "--set-threads": (r"\w+=(\d+|attempt|.*\W.*)", f"RULE=THREADS, as --set-threads train=4; {NAME_FIRST}"),
    "--set-resources": (r"\w+:\w+=.+", f"RULE:RESOURCE=VALUE, as --set-resources train:mem_mb=16000; {NAME_FIRST}"),
    "--default-resources|--default-res": (r"\w+=.+", f"RESOURCE=VALUE, as mem_mb=4000; {NAME_FIRST}"),
    "--resources|--res": (r"\w+=.+", f"RESOURCE=NUMBER, as --resources gpu=2; {NAME_FIRST}"),
}
"""Options that take any number of words, the form of a word as a regular expression, and the form for people."""
ONE_VALUE = {
    "--cores|-c": (r"all|-?\d+", "a whole number of cores, as --cores 4, or all"),
    "--jobs|-j": (r"unlimited|-?\d+", "a whole number of jobs, as --jobs 100"),
}
"""The same of options that take one word."""


def refuse_wrong_options(arguments: Sequence[str]) -> None:
    """Refuse a command line whose options Snakemake cannot read.

    Parameters
    ----------
    arguments
        The words of the command line, the program first.

    Raises
    ------
    CliException
        If `arguments` start this workflow, and Snakemake cannot read them.
    """
    program, *words = arguments
    if not _is_snakemake(program) or "--mode" in words or ASKS_FOR_HELP & set(words):
        return
    if not _starts_this_workflow(words):
        return
    problem = profile_problem(words) or options_problem(words)
    if problem is not None:
        raise CliException(problem)


def profile_problem(words: Sequence[str]) -> str | None:
    """Return that `--workflow-profile` or `--profile` names no profile. Without the first, Snakemake would go on.

    >>> profile_problem(["--workflow-profile", "slrum"])
    '--workflow-profile slrum: there is no such profile; there are default and slurm, in any folder'
    """
    # imported when it is needed: it is Snakemake's whole command line
    from snakemake.cli import get_profile_dir

    profiles = SNAKEFILE.parent / "profiles"
    for word in option_values("--profile", words):
        if get_profile_dir(word) is None:
            own = next((name for name in _names(profiles) if name == word), "slurm")
            return (
                f"--profile {word}: there is no such profile, which is a folder with a file config.yaml. Those of this "
                f"workflow are chosen by --workflow-profile, as --workflow-profile workflow/profiles/{own}"
            )
    for word in option_values("--workflow-profile", words)[:1]:
        if word != "none" and not any((folder / word).exists() for folder in (Path(), Path("profiles"), profiles)):
            known = " and ".join(_names(profiles))
            return f"--workflow-profile {word}: there is no such profile; there are {known}, in any folder"
    return None


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def options_problem(words: Sequence[str]) -> str | None:
    """Return the first problem of the options of a command line; None if Snakemake can read all of them.

    Parameters
    ----------
    words
        Words of the command line after `snakemake`.

    >>> options_problem(["--set-threads", "train"])
    '--set-threads train: write RULE=THREADS, as --set-threads train=4; name what is to be made before the option'
    """
    words = words[: words.index("--")] if "--" in words else words
    given = [(option, word) for option in MANY_VALUES for word in option_values(option, words)]
    given += [(option, word) for option in ONE_VALUE for word in option_values(option, words)[:1]]
    for option, word in given:
        pattern, form = (MANY_VALUES | ONE_VALUE)[option]
        if not re.fullmatch(pattern, word):
            return f"{option.partition('|')[0]} {word}: write {form}"
    return _parser_problem(words)


def _parser_problem(words: Sequence[str]) -> str | None:
    # imported when it is needed: it is Snakemake's whole command line
    from snakemake.cli import get_argument_parser

    parser: Any = get_argument_parser()
    parser.error = _raise
    try:
        _, unknown = parser.parse_known_args(list(words))
    except (ValueError, WorkflowError) as error:
        return f"{' '.join(str(error).split())}; {ALL_OPTIONS}"
    # Options of other logger plugins: Snakemake may not have read these plugins yet.
    unknown = [word for word in unknown if not word.startswith("--logger-")]
    return _unknown_word(unknown[0], parser._option_string_actions) if unknown else None


def _unknown_word(word: str, options: Iterable[str]) -> str:
    """Return the message for a word that Snakemake does not know.

    >>> _unknown_word("--confgfile", ["--configfile", "--cores"])
    '--confgfile: there is no such option; did you mean --configfile? snakemake --help lists all options'
    >>> _unknown_word("verify", [])
    'verify: name all that is to be made side by side, before the options'
    """
    if not word.startswith("-"):
        return f"{word}: name all that is to be made side by side, before the options"
    close = get_close_matches(word.partition("=")[0], list(options), n=1)
    meant = f"did you mean {close[0]}? " if close else ""
    return f"{word}: there is no such option; {meant}{ALL_OPTIONS}"


def _raise(message: str) -> NoReturn:
    raise ValueError(message)


def _is_snakemake(program: str) -> bool:
    """Return whether the program of a command line is Snakemake.

    >>> _is_snakemake("/env/bin/snakemake"), _is_snakemake("/env/snakemake/__main__.py"), _is_snakemake("pytest")
    (True, True, False)
    """
    path = Path(program)
    return path.name == "snakemake" or path.parts[-2:] == ("snakemake", "__main__.py")


def _starts_this_workflow(words: Sequence[str]) -> bool:
    from snakemake.api import resolve_snakefile

    named = option_values("--snakefile|-s", words)
    found = resolve_snakefile(Path(named[0]) if named else None, allow_missing=True)
    return found is not None and Path(found).resolve() == SNAKEFILE
