"""Read configuration files strictly: a repeated key is an error, and every error names file, line and column.

Snakemake reads the same files before it reads the Snakefile. Snakemake takes the later of two equal keys, and its
errors name no line.
"""

import json
import re
from collections.abc import Collection, Hashable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from unet.config.root import ConfigError

TEXT, MERGE = "tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"


class _StrictLoader(yaml.SafeLoader):
    """Loader that refuses a key repeated within one mapping, and what YAML reads otherwise than people do.

    YAML 1.1 reads `060` as 48, `1:30` as 90, `2026-01-02` as a date, and the key `on` as true.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        first: dict[Any, yaml.Mark] = {}
        for key, _ in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else id(key)
            if key.tag not in (TEXT, MERGE):
                read = f"{name} as {self.construct_object(key)!r}" if isinstance(name, str) else "this as a list"
                raise yaml.constructor.ConstructorError(
                    problem=f"YAML reads the key {read}, but a key is a text: put it in quotes",
                    problem_mark=key.start_mark,
                )
            if name in first and name != "<<":
                raise yaml.constructor.ConstructorError(
                    problem=f"the key {name!r} is repeated; it is already on line {first[name].line + 1}",
                    problem_mark=key.start_mark,
                )
            first[name] = key.start_mark
        return super().construct_mapping(node, deep)

    def construct_number(self, node: yaml.ScalarNode) -> int | float:
        """Return a number that is written as people write numbers."""
        is_int = node.tag.endswith(":int")
        value: int | float = self.construct_yaml_int(node) if is_int else self.construct_yaml_float(node)
        digits = node.value.lstrip("+-")
        if ":" in digits or (is_int and re.fullmatch("0[0-9_]+", digits)):
            raise yaml.constructor.ConstructorError(
                problem=f"YAML reads {node.value} as {value}; write {value} if that is meant, else {_decimal(digits)}",
                problem_mark=node.start_mark,
            )
        return value

    def refuse_date(self, node: yaml.ScalarNode) -> None:
        """Refuse a date, which no key takes."""
        raise yaml.constructor.ConstructorError(
            problem=f"YAML reads {node.value} as a date; put it in quotes", problem_mark=node.start_mark
        )


_StrictLoader.add_constructor("tag:yaml.org,2002:int", _StrictLoader.construct_number)
_StrictLoader.add_constructor("tag:yaml.org,2002:float", _StrictLoader.construct_number)
_StrictLoader.add_constructor("tag:yaml.org,2002:timestamp", _StrictLoader.refuse_date)


def _decimal(digits: str) -> str:
    return "put it in quotes" if ":" in digits else f"leave out the 0 at its beginning: {digits.lstrip('0') or 0}"


def read_config_file(path: Path) -> dict[str, Any]:
    """Return the content of a configuration file in YAML or JSON.

    Raises
    ------
    ConfigError
        If the file is missing, cannot be read, is no YAML, has no keys, or repeats a key. The message names file, line
        and column.
    """
    try:
        values = _parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such configuration file{_seen_from(path)}") from None
    except OSError as error:
        raise ConfigError(f"{path}: the configuration file cannot be read ({error.strerror}){_instead(path)}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path}: no text in UTF-8 (byte {error.start}); save it as UTF-8, if it is a configuration"
        ) from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}{_place_and_problem(error)}") from None
    except RecursionError:
        raise ConfigError(f"{path}: brackets or sections are nested too deeply for a configuration") from None
    if values is None:
        raise ConfigError(f"{path}: the configuration file is empty; config/README.md lists its keys, as volumes:")
    if not isinstance(values, dict):
        raise ConfigError(
            f"{path}: a configuration is `key: value` at its top, as volumes:, but this is a {type(values).__name__}; "
            "config/README.md lists the keys"
        )
    if _contains_itself(values, ()):
        raise ConfigError(f"{path}: a section contains itself: *NAME stands inside of what &NAME marks; write it out")
    return values


def _contains_itself(value: Any, around: tuple[int, ...]) -> bool:
    """Return whether a value of YAML is one of those `around` it, by their identities."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return id(value) in around or any(_contains_itself(one, (*around, id(value))) for one in inner)


def with_line_numbers(message: str, paths: Sequence[Path], given: Collection[str] = ()) -> str:
    """Prefix each line of a message that begins with a key by the file and line where the key is set.

    Parameters
    ----------
    message : str
        Lines such as `train.steps: got 0; ...`.
    paths : sequence of Path
        Configuration files that were read without an error. The last file that sets the key counts.
    given : collection of str
        Sections that `--config` sets on the command line.
    """
    trees = {path: yaml.compose(_as_yaml(path.read_text(encoding="utf-8")), yaml.SafeLoader) for path in paths}
    lines = []
    for line in message.splitlines():
        names = re.split(r"[: ]", line)[0].split(".")
        lines.append(f"{'--config, ' if names[0] in given else _place_of_key(names, trees)}{line}")
    return "\n".join(lines)


def _place_of_key(names: Sequence[str], trees: Mapping[Path, yaml.Node | None]) -> str:
    """Return the prefix `mine.yaml, line 3: ` of a key, or of its section. It is empty if no file has either."""
    depth, place = 0, ""
    for path, tree in trees.items():
        found, line = _line_of(tree, names)
        if found and found >= depth:
            depth, place = found, f"{path}, line {line}: "
    return place


def _line_of(node: yaml.Node | None, names: Sequence[str]) -> tuple[int, int]:
    """Return how many names of a key a file has, from the outermost on, and the line of the innermost of these.

    >>> _line_of(yaml.compose("train:\\n  steps: 0\\n"), ["train", "steps"])
    (2, 2)
    """
    depth, place = 0, 0
    for name in names:
        if isinstance(node, yaml.MappingNode):
            inner = {str(key.value): (key, value) for key, value in node.value}.get(name)
        elif isinstance(node, yaml.SequenceNode) and name.isdecimal() and int(name) < len(node.value):
            inner = (node.value[int(name)],) * 2
        else:
            inner = None
        if inner is None:
            break
        depth, place, node = depth + 1, inner[0].start_mark.line + 1, inner[1]
    return depth, place


def _parse(text: str) -> Any:
    return yaml.load(_as_yaml(text), _StrictLoader)


def _as_yaml(text: str) -> str:
    """Replace tabs by spaces in JSON, since YAML forbids tabs for indentation."""
    with suppress(json.JSONDecodeError):
        json.loads(text)
        return text.replace("\t", " ")
    return text


def _instead(path: Path) -> str:
    return "; name a file in it" if path.is_dir() else "; change its rights with chmod"


def _seen_from(path: Path) -> str:
    return "" if path.is_absolute() else f"; paths count from the working directory {Path.cwd()}"


def _place_and_problem(error: yaml.YAMLError) -> str:
    """Return `, line 3, column 5: ` and the problem. Lines and columns count from 1, as in an editor."""
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return f": no text that YAML allows ({' '.join(str(error).split())}); is it a configuration file?"
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
        "found another document": "; a configuration file is one document: remove the line ---",
        "expected '<document start>'": "; a configuration is YAML, `key: value`",
        "could not determine a constructor": "; remove what begins with !, or put the text in quotes",
        "expected alphabetic or numeric": "; put a text that begins with * or & in quotes",
        "found undefined alias": "; put a text that begins with * or & in quotes",
        "for merging": "; what stands after <<: has to be *NAME, of a section marked &NAME",
    }
    return next((text for start, text in advice.items() if start in problem), "")
