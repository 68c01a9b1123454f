# Where receipts lie, which shards a volume has, what code a rule runs: what all rules share.
#
# Inputs:  none
# Outputs: {results}/run_config.yaml, written when a run starts

import yaml

from unet.config import file_of, source_files
from unet.geometry import shard_names
from unet.provenance import code_digest
from unet.receipts import write_atomically
from unet.volume import Layout

SCRIPTS = Path(workflow.basedir).parent / "scripts"
SHARD_VOXELS = 2**28 if CONFIG.predict.shard_voxels == "auto" else CONFIG.predict.shard_voxels
TRAINING_VOLUMES = [] if CONFIG.model.checkpoint else CONFIG.train.volumes
LEARNING_VOLUMES = list(dict.fromkeys(TRAINING_VOLUMES + ([] if CONFIG.model.checkpoint else CONFIG.train.validation)))
BLOCK_MB = 1 + CONFIG.storage.block[0] * CONFIG.storage.block[1] * CONFIG.storage.block[2] // 2**20


wildcard_constraints:
    volume="[A-Za-z0-9][A-Za-z0-9_-]*",
    shard=r"\d+-of-\d+",
    store="segmentation|labels",


def write_run_config():
    """The merged configuration, defaults included, beside the results."""
    text = yaml.safe_dump(CONFIG.model_dump(mode="json"), sort_keys=False)
    write_atomically(Path(RESULTS) / "run_config.yaml", text.encode())


def receipt(rule, *path):
    """The receipt of a job."""
    return f"{RESULTS}/receipts/{rule}/{'/'.join(path)}.json"


def folder_of(wildcards):
    """The folder of a volume's stores."""
    return f"{RESULTS}/volumes/{wildcards.volume}"


def settings(section):
    """A section of the configuration as a plain mapping, for `params`."""
    return section.model_dump(mode="json")


def volume_settings(wildcards):
    return settings(CONFIG.volumes[wildcards.volume])


def code(script):
    """Hash of a script and the package's modules that it imports: editing one of them reruns the rule."""
    return code_digest(SCRIPTS / f"{script}.py")


def shards(volume):
    """The names of a volume's shards, known once its headers are read."""
    survey = checkpoints.survey.get(volume=volume).output.receipt
    return shard_names(Layout.read(Path(survey)).grid, SHARD_VOXELS)


def shard_receipts(rule, volume, *path):
    """The receipts of all shards of a volume."""
    return [receipt(rule, volume, *path, shard) for shard in shards(volume)]


def labels_receipts(volume):
    """What says that `labels.zarr` of a volume is whole: instances are ingested, other kinds are made from classes."""
    if CONFIG.volumes[volume].label_kind == "instances":
        return [receipt("grey_values", volume)]
    return shard_receipts("relabel", volume, "labels")


def sources(wildcards):
    """The image files of a volume, as far as Snakemake must watch them."""
    keys = [f"volumes.{wildcards.volume}.{key}" for key in ("raw", "labels", "mask")]
    found = source_files(CONFIG)
    return [str(found[key]) for key in keys if key in found]


def check_sources():
    """Missing image files stop the run before the first job."""
    made_here = [Path(f"{RESULTS}/sample/{name}.tif") for name in ("raw", "labels")]
    missing = [
        f"{key}: {path} is not there"
        for key, path in source_files(CONFIG).items()
        if path not in made_here and not path.exists()
    ]
    if missing:
        here = f"Paths count from the working directory {Path.cwd()}."
        raise WorkflowError("\n".join(["Input files are missing:", *missing, here]))


check_sources()
