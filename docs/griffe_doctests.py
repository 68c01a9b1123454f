"""An extension of griffe: doctests that stand in running text become blocks of code.

numpydoc expects doctests in a section `Examples`; short docstrings of this package have them after a blank line.
"""

import re
from typing import Any

import griffe

DOCTEST = re.compile(r"(?<=\n\n)( *>>> .*?)(?=\n\n|\Z)", re.DOTALL)


def fenced(text: str) -> str:
    """Return a docstring whose doctests are blocks of code, unless it has a section `Examples`.

    >>> fenced("Add.\\n\\n>>> 1 + 1\\n2")
    'Add.\\n\\n```pycon\\n>>> 1 + 1\\n2\\n```'
    """
    return text if re.search(r"^Examples\n-+$", text, re.MULTILINE) else DOCTEST.sub(r"```pycon\n\1\n```", text)


class Doctests(griffe.Extension):
    """Rewrites docstrings as they are collected."""

    def on_instance(self, *, obj: Any, **_: Any) -> None:
        if not obj.is_alias and obj.docstring is not None:
            obj.docstring.value = fenced(obj.docstring.value)
