"""The reference of the configuration: every key is explained in sentences, and every example is valid."""

from collections.abc import Iterator

import pytest
import yaml
from pydantic import BaseModel

from unet.config.examples import EXAMPLES
from unet.config.pages import FIRST_KEYS, SAMPLE, has_keys, reference, section_of
from unet.config.root import Config, load_config


def descriptions(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Keys and descriptions of a section and of the sections inside it; sections at the top have docstrings instead."""
    for name, info in model.model_fields.items():
        nested = has_keys(info.annotation)
        if prefix or not nested:
            yield f"{prefix}{name}", info.description or ""
        if nested:
            yield from descriptions(section_of(info.annotation), f"{prefix}{name}.")


DESCRIPTIONS = dict(descriptions(Config))


def test_all_keys_are_looked_at() -> None:
    assert len(DESCRIPTIONS) > 100
    assert {"results", "volumes.raw", "train.augment.flips", "segment.watershed.expand_px"} <= DESCRIPTIONS.keys()


@pytest.mark.parametrize("key", DESCRIPTIONS)
def test_a_description_is_made_of_sentences(key: str) -> None:
    text = DESCRIPTIONS[key]
    assert text[:1].isupper() or text.startswith("`"), text
    assert text.endswith("."), text


@pytest.mark.parametrize("section", Config.model_fields)
def test_the_example_of_a_section_is_valid_beside_the_sample(section: str) -> None:
    example = yaml.safe_load(EXAMPLES[section])
    assert section in example
    volumes = {**SAMPLE["volumes"], **example.get("volumes", {})}
    load_config({**SAMPLE, **example, "volumes": volumes})


def test_the_reference_begins_with_the_first_keys() -> None:
    page = reference()
    assert len(FIRST_KEYS) == 8
    assert all(page.count(f"\n| `{key}` |") == 1 for key in FIRST_KEYS)
    assert "| `threshold` | `0.5` | number > 0, < 1 or `auto` |" in page
    assert "| `block` | `[16, 1024, 1024]` | list of 3: whole number > 0 |" in page
