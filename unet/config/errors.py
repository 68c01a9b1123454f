"""What is wrong with a configuration, in words for people: key, value, what is allowed, what may have been meant."""

from difflib import get_close_matches
from textwrap import shorten
from types import NoneType
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

LONGEST_INPUT = 120
"""Characters of a wrong value that a message repeats."""
ALLOWED = {
    "model_type": "input should be keys with values",
    "dict_type": "input should be keys with values",
    "string_pattern_mismatch": "a name is letters, digits, - and _, and begins with a letter or a digit",
}
"""What is allowed, where pydantic speaks to programmers."""


def explain(error: ValidationError, root: type[BaseModel]) -> str:
    """Every problem of a configuration in one line each: key, value, what is allowed."""
    problems: dict[str, list[str]] = {}  # a union such as `int | "auto"` has a problem for each of its branches
    for problem in error.errors():
        what, allowed = _explain_one(dict(problem), root)
        problems.setdefault(what, []).append(allowed)
    return "\n".join(what + ", or ".join(dict.fromkeys(filter(None, allowed))) for what, allowed in problems.items())


def _explain_one(problem: dict[str, Any], root: type[BaseModel]) -> tuple[str, str]:
    """Key and value; what is allowed."""
    # A union adds its branch's name to the location: not a key, so left out.
    branches = {"int", "float", "constrained-int", "constrained-float", "[key]"}
    path = [str(part) for part in problem["loc"] if not _is_branch(str(part), branches)]
    if path[2:] and path[-1] == "str":  # else it may be the name of a volume
        path.pop()
    key, kind, value = ".".join(path) or "configuration", problem["type"], problem["input"]
    if kind == "extra_forbidden":
        return f"{key}: unknown key; ", _meant(path, root)
    if kind == "missing" and isinstance(problem["loc"][-1], int):
        return f"{'.'.join(path[:-1])}: got {value!r}; number {problem['loc'][-1] + 1} is missing", ""
    if kind == "missing":
        return f"{key}: missing; it has no default", ""
    message = str(problem["msg"]).removeprefix("Value error, ")
    if kind == "value_error":
        return (message, "") if not path else (f"{key}: ", message)
    if value is None:
        return f"{key}: nothing stands after it, or indented below it; write what belongs there, or remove the line", ""
    if kind == "string_type" and isinstance(value, int | float):
        message = "input should be a text; put it in quotes"
    return f"{key}: got {shorten(repr(value), LONGEST_INPUT)}; ", ALLOWED.get(kind, message[0].lower() + message[1:])


def _is_branch(part: str, branches: set[str]) -> bool:
    return part in branches or part.startswith(("tuple[", "list[", "literal[", "constrained", "function-"))


def _meant(path: list[str], root: type[BaseModel]) -> str:
    """What an unknown key may have meant: a similar one, the section where it belongs, and all that are allowed."""
    *parents, key = path
    section, names = root, iter(parents)
    for name in names:
        annotation = section.model_fields[name].annotation
        if get_origin(annotation) is dict:
            next(names)  # what the user calls a volume
        section = _model_of(annotation)
    allowed = list(section.model_fields)
    elsewhere = [name for name, field in root.model_fields.items() if key in _keys_of(field.annotation)]
    similar = get_close_matches(key, allowed, n=1)
    said = [f"did you mean {similar[0]}?"] if similar else []
    said += [f"{key} is a key of {' and of '.join(elsewhere)};"] if elsewhere and not similar else []
    return " ".join([*said, f"allowed here: {', '.join(allowed)}"])


def _model_of(annotation: Any) -> Any:
    """The section that a field holds: itself, one of a mapping, or one that may be left out."""
    return next((one for one in get_args(annotation)[::-1] if one is not NoneType), annotation)


def _keys_of(annotation: Any) -> list[str]:
    """Keys of the section that a field holds; of what is no section none."""
    return list(getattr(_model_of(annotation), "model_fields", {}))
