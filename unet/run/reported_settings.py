"""Compare the configuration with the settings of the last report, `{results}/run_config.yaml`."""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from unet.config.root import Config
from unet.run.provenance import configuration_text

MAX_LISTED = 5
NOTICED = ("mtime", "params", "input")
"""Triggers of Snakemake that notice changed files, settings and lists of inputs."""


def changed_settings(results: Path, config: Config) -> list[str]:
    """Return the keys whose values differ from those of the last report, with both values; empty without a report.

    The folder of results does not count, since results may be moved.
    """
    reported = results / "run_config.yaml"
    if not reported.exists():
        return []
    was = dict(_flat(yaml.safe_load(reported.read_text()) or {}))
    now = dict(_flat(yaml.safe_load(configuration_text(config))))
    return [
        f"{key} was {was.get(key, 'not set')}, is {now.get(key, 'not set')}"
        for key in dict.fromkeys([*now, *was])
        if key != "results" and was.get(key) != now.get(key)
    ]


def problem_of_unnoticed_settings(how: str, results: Path, config: Config) -> str | None:
    """Return which settings have changed since the last report, where a command would not notice it.

    Parameters
    ----------
    how : str
        Option that leaves changed settings unnoticed, and what to do instead.
    """
    changed = changed_settings(results, config)
    if not changed:
        return None
    more = f" and {len(changed) - MAX_LISTED} more" if len(changed) > MAX_LISTED else ""
    return f"The results are of other settings ({'; '.join(changed[:MAX_LISTED])}{more}), and {how}"


def problem_of_touch(results: Path, config: Config) -> str | None:
    """Return which settings have changed, where `--touch` would mark results as made with them."""
    instead = "run without --touch, or set the old values"
    return problem_of_unnoticed_settings(f"--touch would mark them as made with these: {instead}", results, config)


def problem_of_triggers(triggers: Collection[str], results: Path, config: Config) -> str | None:
    """Return which settings have changed, where `--rerun-triggers` leaves out what notices it."""
    if set(NOTICED) <= set(triggers):
        return None
    instead = f"leave out the option, or name {' '.join(NOTICED)}"
    given = f"--rerun-triggers {' '.join(sorted(triggers))}"
    return problem_of_unnoticed_settings(f"{given} would leave some as they are: {instead}", results, config)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield all values of nested mappings by their keys.

    >>> dict(_flat({"a": {"b": 1}, "c": {}, "d": [2]}))
    {'a.b': 1, 'c': {}, 'd': [2]}
    """
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
