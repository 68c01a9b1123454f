"""The results as an RO-Crate of the Workflow Run profile, which other programs and archives read.

The folder of results is the crate. It gets `ro-crate-metadata.json`, and a copy of the workflow, which is the crate's
main entity. `provenance.json` in it holds the whole record (`unet.run.provenance`).

Source: Workflow Run RO-Crate 0.5, https://w3id.org/ro/wfrun/workflow/0.5 (doi:10.1371/journal.pone.0309210).
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unet.extras import is_installed, needs
from unet.run.provenance import NAME as RECORD

if TYPE_CHECKING:
    from rocrate.rocrate import ROCrate

NAME = "ro-crate-metadata.json"
PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": "Process Run Crate",
    "https://w3id.org/ro/wfrun/workflow/0.5": "Workflow Run Crate",
}
WORKFLOW_PROFILE = "https://w3id.org/workflowhub/workflow-ro-crate/1.0"
NAMED = ("snakemake", "torch", "zarr", "numpy", "dask")
"""Packages that the crate names; `provenance.json` names all."""
FILES = {
    "run_config.yaml": ("the merged configuration, without the account that pays for jobs", "application/yaml"),
    RECORD: ("versions, fingerprints, and the arguments of every job", "application/json"),
    "report.html": ("scores, pictures, costs", "text/html"),
    "scores.json": ("scores of each volume", "application/json"),
    "model/model.pt": ("the trained network", "application/octet-stream"),
}
STORES = {
    "segmentation.zarr": "instances, OME-Zarr",
    "probability.zarr": "probabilities of the classes, OME-Zarr",
}


def write_run_crate(results: Path, record: Mapping[str, Any], root: Path) -> str | None:
    """Write `ro-crate-metadata.json`, and copy the workflow to where it says.

    Parameters
    ----------
    results : Path
        Folder of everything that was written.
    record : mapping
        The content of `provenance.json`.
    root : Path
        Of the repository.

    Returns
    -------
    str or None
        Why nothing was written, and how to change that; None where the crate is written.
    """
    if not is_installed("rocrate"):
        return f"{NAME} is not written: it {needs('rocrate')}"
    from rocrate.rocrate import ROCrate

    shutil.copytree(root / "workflow", results / "workflow", dirs_exist_ok=True)
    crate = ROCrate()
    crate.name = "unet-em: segmentation of " + ", ".join(record["configuration"]["predict"]["volumes"])
    crate.description = "A run of unet-em: its configuration, workflow, results, and what they were made of"
    crate.license = record["configuration"]["export"]["license"] or "not stated"
    profiles = {**PROFILES, WORKFLOW_PROFILE: "Workflow RO-Crate"}
    for address, name in profiles.items():
        _add(crate, address, {"@type": "CreativeWork", "name": name, "version": address.split("/")[-1]})
    crate.root_dataset["conformsTo"] = [{"@id": address} for address in profiles]
    workflow = _workflow(crate, record["software"], root)
    inputs = [_input(crate, key, found) for key, found in record["inputs"].items()]
    # A model that an earlier configuration has trained is none of this run's.
    names = [name for name in FILES if name != "model/model.pt" or "train/model" in record["made"]]
    made = {name: _file(crate, results, name) for name in names if (results / name).exists()}
    stores = [_store(crate, path) for path in _stores(results, record["configuration"]["predict"]["volumes"])]
    crate.add_action(
        workflow,
        identifier="#run",
        object=[made.pop("run_config.yaml"), *inputs],
        result=[*made.values(), *stores],
        properties={
            "@type": "CreateAction",
            "name": "the run",
            "startTime": record["started"],
            "endTime": record["written"],
            "actionStatus": "http://schema.org/CompletedActionStatus",
            "description": " ".join(record["command"]),
        },
    )
    crate.metadata.write(results)
    return None


def _add(crate: "ROCrate", identifier: str, properties: dict[str, str]) -> Any:
    """Add an entity that is no file of the crate; returns the entity."""
    from rocrate.model.contextentity import ContextEntity

    return crate.add(ContextEntity(crate, identifier, properties))


def _workflow(crate: "ROCrate", software: Mapping[str, Any], root: Path) -> Any:
    """Add the workflow, which is the main entity, with its version and its dependencies."""
    workflow = crate.add_workflow(
        root / "workflow" / "Snakefile",
        "workflow/Snakefile",
        main=True,
        lang="snakemake",
        lang_version=software["packages"].get("snakemake"),
        properties={"name": "unet-em", "version": software["unet-em"], "license": "https://spdx.org/licenses/MIT"},
    )
    if software["git"] is not None:
        workflow["identifier"] = f"git:{software['git']['commit']}" + ("-dirty" if software["git"]["dirty"] else "")
    versions = {"python": software["python"], **{k: v for k, v in software["packages"].items() if k in NAMED}}
    workflow["softwareRequirements"] = [_package(crate, name, version) for name, version in versions.items()]
    return workflow


def _package(crate: "ROCrate", name: str, version: str) -> Any:
    url = "https://www.python.org" if name == "python" else f"https://pypi.org/project/{name}/{version}/"
    properties = {"@type": "SoftwareApplication", "name": name, "version": version, "url": url}
    return _add(crate, f"#{name}-{version}", properties)


def _input(crate: "ROCrate", key: str, found: Mapping[str, Any]) -> Any:
    """Add an input by its configuration key. The input stays where it is, so the crate holds only its fingerprint."""
    properties = {"@type": "PropertyValue", "name": key, "value": found["digest"] or f"{found['bytes']} bytes"}
    return _add(crate, f"#{key}", properties)


def _file(crate: "ROCrate", results: Path, name: str) -> Any:
    description, kind = FILES[name]
    size = str((results / name).stat().st_size)
    properties = {"name": name, "description": description, "encodingFormat": kind, "contentSize": size}
    return crate.add_file(results / name, name, properties=properties)


def _store(crate: "ROCrate", path: str) -> Any:
    properties = {"name": path, "description": STORES[Path(path).name]}
    return crate.add_dataset(dest_path=path, properties=properties)


def _stores(results: Path, volumes: Sequence[str]) -> list[str]:
    found = [f"volumes/{volume}/{name}" for volume in volumes for name in STORES]
    return sorted(path for path in found if (results / path).exists())
