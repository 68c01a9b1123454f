"""Explain the errors of a configuration: the key, its value, the allowed values, and a likely correction."""

import re
from difflib import get_close_matches
from textwrap import shorten
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

LONGEST_INPUT = 120
"""Characters of a wrong value that a message quotes at most."""
NO_VOLUME = (
    "none is configured; name at least one with its image file, as `volumes: {mine: {raw: mine.tif, voxel_size_nm: "
    "[50, 4, 4]}}`"
)
WHOLE_NUMBER, NUMBER = "a whole number", "a number, as 0.001"
ALLOWED = {
    "model_type": "keys with values, each as `key: value`",
    "dict_type": "keys with values, each as `key: value`",
    "int_type": WHOLE_NUMBER,
    "int_parsing": WHOLE_NUMBER,
    "int_from_float": WHOLE_NUMBER,
    "int_parsing_size": WHOLE_NUMBER,
    "float_type": NUMBER,
    "float_parsing": NUMBER,
    "finite_number": "a number that is finite",
    "string_type": "a text, in quotes where YAML reads something else, as a number or a date",
    "tuple_type": "numbers in brackets, as [1, 2, 3]",
    "list_type": "a list in brackets, as [a, b]",
    "too_short": "a list of at least {min_length}",
    "too_long": "a list of at most {max_length}",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "greater_than": "a number greater than {gt:g}",
    "greater_than_equal": "a number of at least {ge:g}",
    "less_than": "a number less than {lt:g}",
    "less_than_equal": "a number of at most {le:g}",
    "string_pattern_mismatch": "a name of letters, digits, - and _ that begins with a letter or a digit",
}
"""Words for an allowed value, by pydantic's type of error. Limits are filled in."""


def explain(error: ValidationError, root: type[BaseModel]) -> str:
    """Return one line per problem of a configuration: key, value and what is allowed.

    pydantic reports a union such as `int | "auto"` once per branch. These reports share one line.
    """
    problems: dict[str, list[str]] = {}
    for problem in error.errors():
        what, allowed = _explain_one(dict(problem), root)
        problems.setdefault(what, []).append(allowed)
    return "\n".join(what + " or ".join(dict.fromkeys(filter(None, allowed))) for what, allowed in problems.items())


def _explain_one(problem: dict[str, Any], root: type[BaseModel]) -> tuple[str, str]:
    """Return the key with its value, and the words for what is allowed."""
    # A union adds the name of its branch to the location, which is no key.
    branches = {"int", "float", "constrained-int", "constrained-float", "[key]"}
    path = [str(part) for part in problem["loc"] if not _is_branch(str(part), branches)]
    if path[2:] and path[-1] == "str":  # a shorter path may end with a volume called `str`
        path.pop()
    if path[-2:] == ["0", "path"]:  # of a source that is given by its path alone
        path = path[:-2]
    key, kind, value = ".".join(path) or "configuration", problem["type"], problem["input"]
    if kind == "extra_forbidden":
        return f"{key}: unknown key; ", _meant(path, root)
    if kind == "missing" and isinstance(problem["loc"][-1], int):
        return f"{'.'.join(path[:-1])}: got {value!r}; number {problem['loc'][-1] + 1} is missing", ""
    if kind == "missing" and path == ["volumes"]:
        return f"{key}: {NO_VOLUME}", ""
    if kind == "missing":
        below = f" below {'.'.join(path[:-1])}" if path[1:] else ""
        return f"{key}: missing; it has no default, so write `{path[-1]}: ...`{below}", ""
    if kind == "value_error":
        message = str(problem["msg"]).removeprefix("Value error, ")
        return (message, "") if not path else (f"{key}: ", message)
    if value is None:
        return f"{key}: it has no value on its line or indented below it; write one, or remove the line", ""
    return f"{key}: got {shorten(repr(value), LONGEST_INPUT)}; it has to be ", _allowed(problem)


def _allowed(problem: dict[str, Any]) -> str:
    """Return the words for the allowed values, with the closest of them to the value given.

    >>> _allowed({"type": "greater_than", "ctx": {"gt": 0}, "input": -1, "msg": "Input should be greater than 0"})
    'a number greater than 0'
    """
    kind, value, context = problem["type"], problem["input"], problem.get("ctx", {})
    if kind == "literal_error":
        similar = get_close_matches(str(value), re.findall(r"'([^']*)'", context["expected"]), n=1)
        return f"{context['expected']}{f' (did you mean {similar[0]}?)' if similar else ''}"
    if kind == "list_type" and isinstance(value, str | int):
        return f"a list in brackets: [{value}]"
    return ALLOWED[kind].format(**context) if kind in ALLOWED else f"otherwise: {problem['msg']}"


def _is_branch(part: str, branches: set[str]) -> bool:
    return part in branches or part.startswith(("tuple[", "list[", "literal[", "constrained", "function-"))


def _meant(path: list[str], root: type[BaseModel]) -> str:
    """Return what an unknown key may mean: a similar key, the section that has the key, and all allowed keys."""
    *parents, key = path
    section, names = root, iter(parents)
    for name in names:
        if name.isdigit():  # the number of a source
            continue
        annotation = section.model_fields[name].annotation
        if get_origin(annotation) is dict:
            next(names)  # skip the user's name of a volume
        section = _model_of(annotation)
    allowed = list(section.model_fields)
    elsewhere = [name for name, field in root.model_fields.items() if key in _keys_of(field.annotation)]
    similar = get_close_matches(key, allowed, n=1)
    said = [f"did you mean {similar[0]}?"] if similar else []
    said += [f"{key} is a key of {' and of '.join(elsewhere)};"] if elsewhere and not similar else []
    return " ".join([*said, f"allowed here: {', '.join(allowed)}"])


def _model_of(annotation: Any) -> Any:
    """Return the section that a field holds: directly, as values of a mapping or a list, or optionally."""
    models = (_model_of(one) for one in get_args(annotation))
    return next((one for one in models if hasattr(one, "model_fields")), annotation)


def _keys_of(annotation: Any) -> list[str]:
    """Return the keys of the section that a field holds; an empty list if the field holds no section."""
    return list(getattr(_model_of(annotation), "model_fields", {}))
