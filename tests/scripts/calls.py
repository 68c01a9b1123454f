"""Compare the functions of the package that a job calls with the functions that the digest of its rule covers."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from unet.config.section import Section
from unet.run.code_digest import DOES_NOT_COMPUTE, PACKAGE, definitions_of

Call = tuple[CodeType | None, CodeType]
"""Who calls whom, of package and scripts; a thread's first function is called by nobody."""


@contextmanager
def calls_noted(calls: set[Call]) -> Iterator[None]:
    """Note all calls of functions of the package, in all threads that begin meanwhile as well."""

    def note(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call" and _is_ours(frame.f_code):
            calls.add((_caller(frame), frame.f_code))

    sys.setprofile(note)
    threading.setprofile(note)
    try:
        yield
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]


def not_covered(calls: set[Call], script: Path) -> set[str]:
    """Return the functions that covered code has called, but that the digest of the script does not cover.

    Validators of the configuration and what they call are left out: a rule's parameters hold their results already.
    """
    validators = _validators()
    covered = {(str(one.module.path), one.name) for one in definitions_of(script)}
    return {
        f"{Path(called.co_filename).stem}.{called.co_qualname}"
        for caller, called in calls
        if _where(called) not in covered and not _does_not_compute(called)
        if called.co_qualname not in validators and (caller is None or caller.co_qualname not in validators)
        if caller is None or _where(caller) in covered or not _is_ours(caller)
    }


def _validators() -> set[str]:
    """Return the validators of all sections, such as `VolumeConfig._consistent`."""
    sections: list[Any] = [Section, *Section.__subclasses__()]
    decorators = [(section.__qualname__, section.__pydantic_decorators__) for section in sections]
    return {
        f"{name}.{validator}"
        for name, own in decorators
        for validator in (*own.field_validators, *own.model_validators)
    }


def _caller(frame: FrameType) -> CodeType | None:
    """The nearest function above that is not a library's."""
    above = frame.f_back
    while above is not None and not (_is_ours(above.f_code) or "/scripts/" in above.f_code.co_filename):
        above = above.f_back
    return above.f_code if above is not None else None


def _is_ours(code: CodeType) -> bool:
    return code.co_filename.startswith(f"{PACKAGE}/")


def _where(code: CodeType) -> tuple[str, str]:
    return code.co_filename, code.co_qualname.partition(".")[0]


def _does_not_compute(code: CodeType) -> bool:
    module = ".".join(Path(code.co_filename).relative_to(PACKAGE.parent).with_suffix("").parts)
    name = _where(code)[1]
    return name.startswith("<") or bool({module, f"{module}.{name}"} & DOES_NOT_COMPUTE.keys())
