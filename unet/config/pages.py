"""Write the files that are generated from the configuration models.

```
python -m unet.config.pages
```

1. `workflow/schemas/config.schema.json`: the JSON schema, for editors.
2. `config/README.md`: the reference of all keys.
3. `config/config.yaml`: the configuration of the sample.
"""

import inspect
import json
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from unet.config.examples import EXAMPLES
from unet.config.root import Config, load_config
from unet.config.source import SourceConfig

ROOT = Path(__file__).parents[2]
WIDTH = 116

SAMPLE: dict[str, Any] = {
    "volumes": {
        "train": {
            "raw": "results/sample/raw.tif",
            "labels": "results/sample/labels.tif",
            "voxel_size_nm": [50, 4, 4],
            "sections": [0, 16],
        },
        "choice": {
            "raw": "results/sample/raw.tif",
            "labels": "results/sample/labels.tif",
            "voxel_size_nm": [50, 4, 4],
            "sections": [16, 18],
        },
        "test": {
            "raw": "results/sample/raw.tif",
            "labels": "results/sample/labels.tif",
            "voxel_size_nm": [50, 4, 4],
            "sections": [18, 24],
        },
    },
    "storage": {"block": [8, 256, 256]},
    "model": {"depth": 4, "base_channels": 16, "normalisation": "batch", "dropout": 0},
    "weights": {"class_balance": True},
    "train": {
        "volumes": ["train"],
        "validation": ["choice"],
        "steps": 400,
        "tile": 188,
        "batch": 8,
        "optimizer": "adamw",
        "learning_rate": 0.003,
        "augment": {"rotation": "right", "elastic_probability": 0},
    },
    "predict": {"volumes": ["train", "test"], "job_voxels": 3_145_728},
    "segment": {"method": "watershed", "decoder": "auto"},
    "evaluate": {"volumes": ["train", "test"], "threshold_volumes": ["train"]},
}
"""Configuration of the sample: the keys that differ from their defaults, small enough for two cores."""

HEADER = """\
# The embedded sample. `snakemake --cores 2` generates a volume of 24 sections, and trains on 16 (volume `train`). It
# chooses the best weights on 2 more (volume `choice`). It segments `train` and the 6 sections left (volume `test`) into
# cells in 3-D; `decoder: auto` chooses the settings of watershed and agglomeration on the labels of `train`.
# Generated from unet/config/pages.py by `make config`. config/README.md lists every key with its default.
# For your own data, copy a file of config/examples/ and pass it to Snakemake: --configfile mine.yaml
"""

FIRST_KEYS = (
    "volumes.<name>.raw",
    "volumes.<name>.labels",
    "volumes.<name>.label_kind",
    "volumes.<name>.voxel_size_nm",
    "train.volumes",
    "train.steps",
    "predict.volumes",
    "segment.method",
)
"""Keys that a first configuration of one's own data sets."""

INTRODUCTION = """\
# Configuration

Generated from `unet/config/` by `make config`.

A configuration file of your own (`--configfile mine.yaml`) replaces `config.yaml`, the configuration of the sample.
A key that the file leaves out has its default. Unknown keys, wrong types and values out of range stop a run before its
first job. The folder `examples/` holds configurations of published data sets.

## Start with these eight keys
"""

HEAD = ("", "| key | default | allowed | meaning |", "|---|---|---|---|")
TYPES = {
    "null": "`null`",
    "boolean": "`true`, `false`",
    "integer": "whole number",
    "number": "number",
    "string": "text",
}
BOUNDS = {"exclusiveMinimum": ">", "minimum": ">=", "exclusiveMaximum": "<", "maximum": "<="}
"""Words of the reference for types and limits of the JSON schema."""


def pages() -> dict[Path, str]:
    """Return the content of every generated file by its path."""
    return {
        ROOT / "workflow" / "schemas" / "config.schema.json": json.dumps(Config.model_json_schema(), indent=1) + "\n",
        ROOT / "config" / "README.md": reference(),
        ROOT / "config" / "config.yaml": default_file(),
    }


def default_file() -> str:
    """Return the configuration of the sample as YAML."""
    load_config(SAMPLE)
    body = yaml.safe_dump(SAMPLE, sort_keys=False, default_flow_style=None, width=WIDTH)
    return HEADER + "\n" + body


def reference() -> str:
    """Return the reference of all keys as Markdown: default, allowed values, meaning, and an example per section."""
    parts = [INTRODUCTION, "| key | meaning |", "|---|---|"]
    parts += [f"| `{key}` | {_cell(_field(key).description)} |" for key in FIRST_KEYS]
    for name, info in Config.model_fields.items():
        parts += _section(name, info)
    return "\n".join(parts) + "\n"


def _field(key: str) -> FieldInfo:
    """Return the field of a key such as `train.steps`; the name of a volume is `<name>`."""
    section, name = key.replace(".<name>", "").split(".")
    return section_of(Config.model_fields[section].annotation).model_fields[name]


def _section(name: str, info: FieldInfo) -> list[str]:
    """Return the lines of one section: its docstring, an example and a table of its keys."""
    title = f"`{name}.<name>`" if name == "volumes" else f"`{name}`"
    example = ["", "```yaml", EXAMPLES[name].strip(), "```"]
    if not has_keys(info.annotation):
        allowed = _allowed(Config.model_json_schema()["properties"][name])
        text = f"{info.description} Default: {_default(info)}. Allowed: {allowed}."
        return ["", f"## {title}", "", text, *example]
    model = section_of(info.annotation)
    lines = ["", f"## {title}", "", inspect.getdoc(model) or "", *example, *HEAD, *_rows(model, "")]
    if name == "volumes":
        lines += ["", "### A source", "", inspect.getdoc(SourceConfig) or "", *HEAD, *_rows(SourceConfig, "")]
    return lines


def _rows(model: type[BaseModel], prefix: str) -> list[str]:
    """Return one table row per key, followed by the keys of the section inside it."""
    rows, schemas = [], model.model_json_schema()["properties"]
    for name, info in model.model_fields.items():
        nested = has_keys(info.annotation)
        if not nested or info.default is None:
            allowed = "the keys below, or `null`" if nested else _allowed(schemas[name])
            rows.append(f"| `{prefix}{name}` | {_default(info)} | {allowed} | {_cell(info.description)} |")
        if nested:
            rows += _rows(section_of(info.annotation), f"{prefix}{name}.")
    return rows


def has_keys(annotation: Any) -> bool:
    """Return whether a field is a section, or a mapping of sections."""
    section = section_of(annotation)
    return hasattr(section, "model_fields") and section is not SourceConfig


def section_of(annotation: Any) -> Any:
    """Return the section that an annotation is, or that a mapping or union holds; else the annotation."""
    candidates = [annotation, *getattr(annotation, "__args__", ())]
    return next((one for one in candidates if hasattr(one, "model_fields")), annotation)


def _allowed(schema: dict[str, Any]) -> str:
    """Return the allowed values of a key in words, from its JSON schema.

    >>> _allowed({"anyOf": [{"type": "integer", "exclusiveMinimum": 0}, {"const": "auto"}, {"type": "null"}]})
    'whole number > 0, `auto` or `null`'
    >>> _allowed({"type": "array", "prefixItems": [{"type": "number", "minimum": 0, "maximum": 1}] * 3})
    'list of 3: number >= 0, <= 1'
    """
    if "$ref" in schema:
        return "the keys of [a source](#a-source)"
    if "anyOf" in schema:
        choices = list(dict.fromkeys(_allowed(one) for one in schema["anyOf"]))
        return " or ".join([", ".join(choices[:-1]), choices[-1]]) if choices[1:] else choices[0]
    if "const" in schema or "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    if schema["type"] == "array" and "prefixItems" in schema:
        items = dict.fromkeys(map(_allowed, schema["prefixItems"]))
        return f"list of {len(schema['prefixItems'])}: {', then '.join(items)}"
    if schema["type"] == "array":
        return f"list: {_allowed(schema['items'])}"
    if schema["type"] == "object":
        return f"name: {_allowed(schema['additionalProperties'])}"
    bounds = [f"{sign} {schema[key]:g}" for key, sign in BOUNDS.items() if key in schema]
    return f"{TYPES[schema['type']]} {', '.join(bounds)}".strip()


def _cell(text: str | None) -> str:
    return (text or "").replace("|", "\\|")


def _default(info: FieldInfo) -> str:
    """Return the default of a key as JSON in backticks."""
    if info.is_required():
        return "required"
    value = info.get_default(call_default_factory=True)
    return f"`{json.dumps(list(value) if isinstance(value, tuple) else value)}`"


def main() -> None:
    """Write all generated files."""
    for path, content in pages().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


if __name__ == "__main__":
    main()
