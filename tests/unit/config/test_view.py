"""Sections of what is shown and exported: wrong keys are named, and the commands of the how-to are valid."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from unet.config.pages import SAMPLE
from unet.config.root import Config, ConfigError, load_config

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "look-at-the-result.md"
COMMAND = re.compile(r'^snakemake (\w+) .*--config (\w+)="(.*)"$', re.MULTILINE)


def test_the_commands_of_the_how_to_are_valid() -> None:
    commands = COMMAND.findall(PAGE.read_text())
    assert {rule for rule, _, _ in commands} == {"view", "export_tiff", "export_precomputed", "export_webknossos"}
    assert len(commands) > 6
    for rule, section, values in commands:
        assert section == rule
        found = getattr(load_config({**SAMPLE, section: yaml.safe_load(values)}), section)
        assert found != getattr(Config.model_construct(volumes={}), section)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"view": {"position": [0, 0, 0], "error": 1}}, r"position is \[0, 0, 0\] and error is 1: both say where"),
        ({"view": {"address": "https://a.org"}}, "address is https://a.org, but is read only with state"),
        ({"view": {"volume": "tset"}}, "view.volume: no volume of this run is called 'tset'; there are"),
        ({"export_webknossos": {"volume": "tset"}}, "export_webknossos.volume: no volume of this run is called 'tset'"),
        ({"export_tiff": {"box": [[0, 2], [5, 5], [0, 9]]}}, "along y it begins at 5 and ends at 5"),
        ({"export_precomputed": {"stores": ["raw", "raw"]}}, "names a store twice; name it once"),
    ],
)
def test_what_cannot_be_shown_is_told(section: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config({**SAMPLE, **section})
