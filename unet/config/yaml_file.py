"""Configuration files read strictly: a key twice is an error, and every error has its file, line and column.

Snakemake reads the same files before the Snakefile. There the later of two equal keys wins, and an error has no place.
"""

import json
from collections.abc import Hashable
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from unet.config.root import ConfigError


class _StrictLoader(yaml.SafeLoader):
    """Refuses a key that stands twice in one mapping."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        first: dict[Any, yaml.Mark] = {}
        for key, _ in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else id(key)
            if name in first and name != "<<":
                raise yaml.constructor.ConstructorError(
                    problem=f"the key {name!r} stands here a second time; it is already on line {first[name].line + 1}",
                    problem_mark=key.start_mark,
                )
            first[name] = key.start_mark
        return super().construct_mapping(node, deep)


def read_config_file(path: Path) -> dict[str, Any]:
    """What a configuration file in YAML or JSON says.

    Raises
    ------
    ConfigError
        If the file is not there, cannot be read, is no YAML, holds no keys, or a key twice. It names file, line and
        column.
    """
    try:
        values = _parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such configuration file{_seen_from(path)}") from None
    except OSError as error:
        raise ConfigError(f"{path}: the configuration file cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: no text in UTF-8 (byte {error.start}); save it as UTF-8") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}{_place_and_problem(error)}") from None
    if values is None:
        raise ConfigError(f"{path}: the configuration file is empty; config/README.md lists its keys, as volumes:")
    if not isinstance(values, dict):
        raise ConfigError(
            f"{path}: a configuration is `key: value` at its top, as volumes:, but this is a {type(values).__name__}"
        )
    return values


def _parse(text: str) -> Any:
    with suppress(json.JSONDecodeError):  # may be indented with tabs, which YAML may not
        json.loads(text)
        text = text.replace("\t", " ")
    return yaml.load(text, _StrictLoader)


def _seen_from(path: Path) -> str:
    return "" if path.is_absolute() else f"; paths count from the working directory {Path.cwd()}"


def _place_and_problem(error: yaml.YAMLError) -> str:
    """`, line 3, column 5: what is wrong`, as an editor counts."""
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return f": no YAML ({error})"
    place = f", line {mark.line + 1}, column {mark.column + 1}: "
    problem = str(getattr(error, "problem", ""))
    if "'\\t'" in problem:
        return f"{place}a tab; YAML is indented with spaces"
    start = getattr(error, "context_mark", None)
    begins = f", in what begins on line {start.line + 1}" if start is not None and start.line != mark.line else ""
    return f"{place}{problem}{begins}{_advice(problem)}"


def _advice(problem: str) -> str:
    advice = {
        "mapping values are not allowed": "; is a line above indented differently, or a text with `: ` without quotes?",
        "expected ',' or": "; is a bracket or a comma missing on a line above?",
        "expected <block end>": "; is this line, or the one above, indented differently from its neighbours?",
        "could not find expected ':'": "; is a `:` with a space after it missing?",
        "cannot start any token": "; put the text in quotes",
        "found unexpected end of stream": "; is a quote or a bracket never closed?",
    }
    return next((text for start, text in advice.items() if start in problem), "")
