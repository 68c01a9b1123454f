"""Write a configuration as YAML with a comment that says why at each value."""

from collections.abc import Mapping
from textwrap import wrap
from typing import Any

import yaml

WIDTH = 116
COLUMN = 44
"""Column at which a comment begins that stands behind its value."""


def commented_yaml(settings: Mapping[str, Any], reasons: Mapping[str, str]) -> str:
    """Return nested settings as YAML with comments.

    Parameters
    ----------
    settings : mapping
        Values by key. Mappings are written in lines of their own, lists in one line.
    reasons : mapping
        Comment by the full key, such as `train.steps`. A comment that does not fit behind its value stands above.

    >>> print(commented_yaml({"train": {"steps": 400}}, {"train.steps": "as many as fit"}), end="")
    train:
      steps: 400                                # as many as fit
    """
    return "".join(f"{line}\n" for line in _lines(settings, reasons, ()))


def _lines(settings: Mapping[str, Any], reasons: Mapping[str, str], above: tuple[str, ...]) -> list[str]:
    lines: list[str] = []
    indent = "  " * len(above)
    for key, value in settings.items():
        reason = reasons.get(".".join((*above, key)), "")
        if isinstance(value, Mapping) and value:
            lines += [f"{indent}# {part}" for part in wrap(reason, WIDTH - len(indent))]
            lines += [f"{indent}{_flow(key)}:", *_lines(value, reasons, (*above, key))]
        else:
            lines += _commented(f"{indent}{_flow(key)}: {_flow(value)}", reason, indent)
    return lines


def _commented(line: str, reason: str, indent: str) -> list[str]:
    if not reason:
        return [line]
    behind = f"{line:<{COLUMN - 2}}  # {reason}"
    if len(behind) <= WIDTH:
        return [behind]
    return [*(f"{indent}# {part}" for part in wrap(reason, WIDTH - len(indent) - 2)), line]


def _flow(value: Any) -> str:
    """Return a value in one line, with quotes where YAML needs them."""
    text = yaml.safe_dump(value, default_flow_style=True, width=10**9, allow_unicode=True, sort_keys=False)
    return text.strip().removesuffix("\n...").strip()
