"""Files of the tree of parts: what each part settled, and what may still change in it."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet.segmentation.fragments import is_object
from unet.segmentation.merge_part import GraphEdges, Near, Part, Runs
from unet.segmentation.merge_tree import Outcome
from unet.segmentation.region_graph import Edges
from unet.segmentation.settling import NodeEdges, Nodes
from unet.storage.files import load_arrays, save_arrays

Arrays = dict[str, NDArray[Any]]


def part_paths(folder: Path, name: str) -> tuple[Path, Path]:
    """Return the files of the part of this name: what it settled, and what is live in it."""
    return folder / f"{name}-settled.npz", folder / f"{name}-live.npz"


def save_outcome(path: Path, outcome: Outcome) -> None:
    """Write what a part settled, whole or not at all."""
    save_arrays(path, {**_columns(outcome.objects), "became": outcome.became, "starts": outcome.starts})


def load_outcome(path: Path) -> Outcome:
    """Read what `save_outcome` wrote."""
    arrays = load_arrays(path, "became", "starts", *_names(Nodes))
    return Outcome(_nodes(arrays), arrays["became"], arrays["starts"])


def count_settled(path: Path, min_size: int) -> tuple[int, NDArray[np.int64]]:
    """Return how many settled objects get an id, and `Outcome.starts`; what the inputs became is not read."""
    with np.load(path) as file:
        return int(is_object(file["size"], file["class_value"], min_size).sum()), file["starts"]


def save_part(path: Path, part: Part) -> None:
    """Write what is live in a part, whole or not at all."""
    arrays = {**_columns(part.nodes), **_edges(part.edges.sums, ""), "touching": part.edges.touching}
    arrays |= {"penalised": part.edges.penalised, **_edges(part.outward.sums, "outward_")}
    arrays |= {"outward_touching": part.outward.touching, "components": np.array(part.components)}
    arrays |= {f"near_{name}": getattr(part.near, name) for name in _names(Near)}
    arrays |= {"layers": np.array([part.layers.start, part.layers.stop])}
    for name, planes in (("lower", part.lower), ("upper", part.upper)):
        arrays[name] = np.concatenate([np.empty((0, 2), np.uint32), *planes])
        arrays[f"{name}_runs"] = np.array([len(plane) for plane in planes], np.int64)
    save_arrays(path, arrays)


def load_part(path: Path) -> Part:
    """Read what `save_part` wrote."""
    arrays = load_arrays(path, "layers", "components", *_names(Nodes))
    near = Near(**{name: arrays[f"near_{name}"] for name in _names(Near)})
    edges = NodeEdges(_edges_in(arrays, ""), arrays["touching"], arrays["penalised"])
    outward = GraphEdges(_edges_in(arrays, "outward_"), arrays["outward_touching"])
    lower, upper = (_planes(arrays[name], arrays[f"{name}_runs"]) for name in ("lower", "upper"))
    layers = range(*arrays["layers"].tolist())
    return Part(layers, _nodes(arrays), edges, lower, upper, near, outward, int(arrays["components"]))


def _names(kind: type[Any]) -> list[str]:
    return [field.name for field in fields(kind)]


def _columns(nodes: Nodes) -> Arrays:
    return {name: getattr(nodes, name) for name in _names(Nodes)}


def _nodes(arrays: Mapping[str, NDArray[Any]]) -> Nodes:
    return Nodes(**{name: arrays[name] for name in _names(Nodes)})


def _edges(edges: Edges, prefix: str) -> Arrays:
    return {f"{prefix}{name}": getattr(edges, name) for name in _names(Edges) if getattr(edges, name) is not None}


def _edges_in(arrays: Mapping[str, NDArray[Any]], prefix: str) -> Edges:
    return Edges(**{name: arrays.get(f"{prefix}{name}") for name in _names(Edges)})  # type: ignore[arg-type]


def _planes(runs: Runs, counts: NDArray[np.int64]) -> list[Runs]:
    return np.split(runs, np.cumsum(counts)[:-1]) if len(counts) else []
