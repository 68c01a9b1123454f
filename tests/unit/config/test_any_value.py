"""Whatever stands at any place of a configuration, it is taken, or refused by a sentence that names its key."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from unet.config.examples import EXAMPLES
from unet.config.pages import SAMPLE
from unet.config.root import ConfigError, load_config

FILES = sorted((Path(__file__).parents[3] / "config" / "examples").glob("*.yaml"))
FULL_SOURCES = {
    "volumes": {
        "all_keys": {
            "raw": [{"path": "a.tif", "axes": "zyx", "channels": [0], "flip": ["y"], "offset": [0, 0, 0]}, "b.tif"],
            "labels": {"path": "c.tif", "offset": [1, 2, 3]},
            "mask": {"path": "d.tif", "flip": ["y"]},
            "compare": {"peer": {"path": "e.tif"}},
            "voxel_size_nm": [40, 4, 4],
            "crop": [[0, 8], [0, 64], [0, 64]],
        }
    }
}
OTHER_VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    1e400,
    "",
    "x",
    "https://k:s@h/a",
    [],
    [None],
    [[1]],
    {},
    {"x": {}},
    {1: 2},
)
Place = tuple[str | int, ...]


def configurations() -> dict[str, dict[str, Any]]:
    """Return the sample, the examples of the reference, those for real data, and sources with all of their keys."""
    of_reference = {name: SAMPLE | yaml.safe_load(text) for name, text in EXAMPLES.items()}
    return of_reference | {path.stem: yaml.safe_load(path.read_text()) for path in FILES} | {"sources": FULL_SOURCES}


def places(value: Any, here: Place = ()) -> Iterator[Place]:
    """Yield the place of each value inside of mappings and lists."""
    if here:
        yield here
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        yield from places(one, (*here, key))


def own_places(name: str) -> Iterator[Place]:
    """Yield the places of a configuration, of an example of the reference those that are not of the sample."""
    own = yaml.safe_load(EXAMPLES[name]) if name in EXAMPLES else configurations()[name]
    yield from places(own)


def at(values: Any, place: Place) -> Any:
    """Return the value at a place."""
    for key in place:
        values = values[key]
    return values


def taken_or_refused(values: dict[str, Any]) -> str:
    """Return the message of a refusal; empty if the configuration is taken."""
    try:
        load_config(values)
    except ConfigError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("name", configurations())
def test_another_value_is_taken_or_refused_in_few_words(name: str) -> None:
    values = configurations()[name]
    for place in own_places(name):
        for other in OTHER_VALUES:
            changed = copy.deepcopy(values)
            at(changed, place[:-1])[place[-1]] = other
            message = taken_or_refused(changed)
            assert all(len(line) < 700 for line in message.splitlines()), (place, other, message)
            assert "k:s@" not in message, (place, other, message)


@pytest.mark.parametrize("name", configurations())
def test_an_unknown_key_is_refused_by_its_name_wherever_it_stands(name: str) -> None:
    values = configurations()[name]
    for place in [(), *own_places(name)]:
        if isinstance(at(values, place), dict):
            changed = copy.deepcopy(values)
            at(changed, place)["unknwon"] = {"x": 1}
            assert "unknwon" in taken_or_refused(changed), place
