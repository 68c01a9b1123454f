"""The pages that follow from `unet.config.root`: JSON schema, reference, and `config/config.yaml` for the sample.

python -m unet.config.pages          writes them
"""

import json
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from unet.config.root import Config, load_config

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
    "segment": {"threshold": "auto"},
    "evaluate": {"volumes": ["train", "test"], "threshold_volumes": ["train"]},
}
"""The sample's configuration: what differs from the defaults, small enough for two cores."""

HEADER = """\
# The embedded sample: `snakemake --cores 2` makes it, learns from 16 of its sections, chooses the checkpoint with 2
# more (volume `choice`), and segments those that it learnt from and the 6 left, which are only scored.
# Generated from unet/config/pages.py by `make config`; every key with its default is in config/README.md.
# For your own data copy one of config/examples/ and give it to Snakemake: --configfile mine.yaml
"""


def pages() -> dict[Path, str]:
    """Every generated file with its content."""
    return {
        ROOT / "workflow" / "schemas" / "config.schema.json": json.dumps(Config.model_json_schema(), indent=1) + "\n",
        ROOT / "config" / "README.md": reference(),
        ROOT / "config" / "config.yaml": default_file(),
    }


def default_file() -> str:
    """The sample's configuration as YAML."""
    load_config(SAMPLE)
    body = yaml.safe_dump(SAMPLE, sort_keys=False, default_flow_style=None, width=WIDTH)
    return HEADER + "\n" + body


def reference() -> str:
    """Every key with its type, default and meaning, as Markdown."""
    parts = [
        "# Configuration",
        "",
        "Generated from `unet/config/` by `make config`. Unknown keys, wrong types and values out of range stop a",
        "run before its first job. A file of one's own (`--configfile mine.yaml`) replaces `config.yaml`; what it",
        "leaves out has the default given here. `config.yaml` is the embedded sample, `examples/` holds real data.",
    ]
    for name, info in Config.model_fields.items():
        parts += _section(name, info)
    return "\n".join(parts) + "\n"


def _section(name: str, info: FieldInfo) -> list[str]:
    model = _model_of(info.annotation)
    if model is None:
        return ["", f"## `{name}`", "", f"{info.description or ''}; default `{_value(info)}`."]
    title = f"`{name}.<name>`" if name == "volumes" else f"`{name}`"
    lines = ["", f"## {title}", "", (model.__doc__ or "").strip(), "", "| key | default | is |", "|---|---|---|"]
    return lines + _rows(model, "")


def _rows(model: type[BaseModel], prefix: str) -> list[str]:
    rows = []
    for name, info in model.model_fields.items():
        nested = _model_of(info.annotation)
        if nested is None or info.default is None:
            text = (info.description or "").replace("|", "\\|")
            rows.append(f"| `{prefix}{name}` | {_default(info)} | {text} |")
        if nested is not None:
            rows += _rows(nested, f"{prefix}{name}.")
    return rows


def _model_of(annotation: Any) -> type[BaseModel] | None:
    """The configuration model that an annotation is, or that a mapping's values are."""
    candidates = [annotation, *getattr(annotation, "__args__", ())]
    models = [c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)]
    return models[0] if models else None


def _default(info: FieldInfo) -> str:
    return "required" if info.is_required() else f"`{_value(info)}`"


def _value(info: FieldInfo) -> str:
    value = info.get_default(call_default_factory=True)
    return json.dumps(list(value) if isinstance(value, tuple) else value)


def main() -> None:
    """Write all pages."""
    for path, content in pages().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


if __name__ == "__main__":
    main()
