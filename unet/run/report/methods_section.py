"""A methods paragraph to paste into a paper: from the configuration and the records of a run, with citations.

It says what was run and nothing else. What is switched off is not mentioned; what the run chose, thresholds and steps,
stands with its value.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from unet.config.root import Config
from unet.config.segment import SegmentConfig
from unet.config.train import AugmentConfig
from unet.config.unused_keys import learnt_volumes
from unet.run.report.citations import CitingText


class Methods(NamedTuple):
    """The paragraph and its references."""

    paragraph: str
    references: Sequence[str]


@dataclass(frozen=True)
class RunRecords:
    """The records of a run, which the configuration does not hold.

    Attributes
    ----------
    versions : package -> version, with ``unet-em``
    volumes : volume -> (shape, voxel size in nm), both along z, y, x
    steps : steps that the training made; None where nothing was trained
    kept_step : step of the weights that were kept
    threshold : probability above which a voxel is foreground; None where it is not known
    agglomeration_threshold : threshold of the agglomeration in force; None without one
    segment : settings of the segmentation in force, those that were chosen included
    """

    versions: Mapping[str, str]
    volumes: Mapping[str, tuple[Sequence[int], Sequence[float]]]
    segment: SegmentConfig
    steps: int | None = None
    kept_step: int | None = None
    threshold: float | None = None
    agglomeration_threshold: float | None = None
    scores: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def methods(config: Config, records: RunRecords) -> Methods:
    """Return the methods paragraph of a run."""
    text = CitingText()
    _data(text, config, records)
    _network(text, config)
    if config.model.checkpoint is None:
        _training(text, config, records)
        text.add(_augmentation(config.train.augment))
    _prediction(text, config)
    _decoding(text, config, records)
    _evaluation(text, config, records)
    _software(text, records)
    return Methods(text.text, text.references)


def _data(text: CitingText, config: Config, records: RunRecords) -> None:
    sizes = [
        f"{name} ({' × '.join(f'{n:,}' for n in shape)} voxels of {' × '.join(f'{side:g}' for side in sides)} nm)"
        for name, (shape, sides) in records.volumes.items()
    ]
    text.add(f"Volumes (z × y × x): {_list(sizes)}.")
    rule = config.normalisation
    if rule.mean is not None:
        how = f"intensities were normalised as (x - {rule.mean}) / {rule.std}"
    elif rule.percentiles is not None:
        how = "percentiles {:g} and {:g} of the intensities of each volume became -1 and 1".format(*rule.percentiles)
    else:
        how = "intensities of each volume were normalised to mean 0 and standard deviation 1"
    left_out = {"auto": ", constant regions left out", "none": ""}.get(
        str(rule.ignore_value), f", voxels of value {rule.ignore_value} left out"
    )
    text.add(f"{how[0].upper()}{how[1:]}{left_out}.")


def _network(text: CitingText, config: Config) -> None:
    model = config.model
    if model.checkpoint is not None:
        name = model.checkpoint.rstrip("/").rpartition("/")[2]
        text.add(f"A network that had been trained before ({name}) was used {text.cite('unet')}.")
        return
    name = f"{model.dimensions}-D {'U-Net' if model.architecture == 'unet' else 'FCN-8s'}"
    parts = [f"{model.depth} resolution levels and {model.base_channels} channels at the first one"]
    parts.append("unpadded convolutions" if model.convolution == "valid" else "zero-padded convolutions")
    if model.block == "residual":
        parts.append(f"residual blocks {text.cite('residual')}")
    if model.normalisation == "batch":
        parts.append(f"batch normalisation {text.cite('batch_normalisation')}")
    if model.upsampling == "bilinear":
        parts.append("bilinear up-sampling")
    if model.skip == "add":
        parts.append("added skip connections")
    if model.dropout:
        parts.append(f"dropout of {model.dropout:g} in the two deepest levels of the contracting path")
    if model.context_sections:
        parts.append(f"{model.context_sections} neighbouring sections on each side as further input channels")
    cited = text.cite("unet") if model.architecture == "unet" else text.cite("fcn8s", "unet")
    text.add(f"A {name} {cited} with {_list(parts)} predicted {_output(text, config)}.")


def _output(text: CitingText, config: Config) -> str:
    if config.model.output == "affinities":
        offsets = "nearest neighbours and longer offsets"
        if config.model.offsets != "auto":
            offsets = f"{len(config.model.offsets)} offsets"
        return f"affinities of {offsets} per voxel {text.cite('affinities')}"
    return f"the probability of {_list(config.class_names)} per voxel"


def _training(text: CitingText, config: Config, records: RunRecords) -> None:
    train = config.train
    side = train.tile if isinstance(train.tile, int) else " × ".join(map(str, train.tile))
    patches = f"{train.batch * train.gpus} patch{'es' * (train.batch * train.gpus != 1)} of {side} px"
    steps = records.steps or train.steps
    how = f"SGD with momentum {train.momentum:g}"
    if train.optimizer == "adamw":
        how = f"AdamW {text.cite('adamw')}"
    decay = f", weight decay {train.weight_decay:g}" if train.weight_decay else ""
    text.add(
        f"It was trained on {_list(train.volumes)} for {steps:,} steps of {patches} by {how}{decay}. "
        f"{_learning_rate(config)}"
    )
    text.add(_loss(text, config))
    if train.weight_average:
        text.add(
            f"The weights were averaged exponentially (decay {train.weight_average:g}) {text.cite('weight_average')}."
        )
    if train.validation:
        kept = "" if records.kept_step is None else f" (step {records.kept_step:,})"
        text.add(f"The weights with the best score on {_list(train.validation)} were kept{kept}.")
    held = {name: config.held_back_share(name) for name in train.volumes}
    if any(held.values()):
        told = _list(
            [f"{100 * share:g} % of the annotated sections of {name}" for name, share in held.items() if share]
        )
        text.add(f"The training left out {told}, on which thresholds were chosen.")


def _learning_rate(config: Config) -> str:
    train = config.train
    warm = f" after {train.warmup_steps:,} steps of warm-up" if train.warmup_steps else ""
    shape = " and fell to 0 along half a cosine" if train.schedule == "cosine" else " and stayed constant"
    clip = f"; gradients were clipped to a norm of {train.clip_norm:g}" if train.clip_norm else ""
    return f"The learning rate was {train.learning_rate:g}{warm}{shape}{clip}."


def _loss(text: CitingText, config: Config) -> str:
    weights, own = config.weights, config.train.affinities
    border = f"the border weight of the U-Net paper (equation 2, w0 = {weights.w0:g}, sigma = {weights.sigma:g} px)"
    if config.model.output == "affinities":
        parts = [f"labels eroded by {own.erode_labels} voxel{'s' * (own.erode_labels != 1)} for nearest neighbours"]
        parts = parts if own.erode_labels else []
        parts += ["both classes of each channel balanced"] if own.class_balance else []
        parts += [border] if own.border_weight else []
        with_ = f" with {_list(parts)}" if parts else ""
        more = ""
        if own.shape_descriptors is not None:
            more = f"; local shape descriptors {text.cite('shape_descriptors')} were an auxiliary target"
        return f"The loss was the binary cross-entropy of the affinities{with_}{more}."
    parts = [border] if weights.w0 else []
    parts += ["classes balanced by their inverse frequency"] if weights.class_balance else []
    return f"The loss was the cross-entropy{' with ' + _list(parts) if parts else ''}."


def _augmentation(own: AugmentConfig) -> str:
    """Return the sentence on the augmentation; empty where there is none."""
    right = {"right": "quarter turns", "any": "rotations by any angle", "none": ""}[own.rotation]
    symmetry = {
        "none": "",
        "flips_3d": "flips along z, y and x",
        "symmetries_3d": "flips along all axes with quarter turns",
        "cube": "the 48 symmetries of the cube",
    }[own.symmetries]
    elastic = own.elastic_px if own.elastic_probability else 0
    elastic_3d = own.elastic_3d if own.elastic_3d_probability and any(own.elastic_3d) else None
    parts = [
        "flips" if own.flips else "",
        right,
        symmetry,
        f"elastic deformation within the section ({own.elastic_probability:.0%} of the patches, {elastic:g} px)"
        if elastic
        else "",
        f"elastic deformation in 3-D ({own.elastic_3d_probability:.0%} of the patches)" if elastic_3d else "",
        _with_value("brightness (SD {:g})", own.brightness),
        _with_value("contrast (SD {:g} of log2 of the gain)", own.contrast),
        _with_value("Gaussian noise (SD up to {:g})", own.noise),
        f"blur up to {own.blur_px:g} px" if own.blur_px and own.blur_probability else "",
        _with_value("contrast shifts of {:.0%} of the sections", own.contrast_shift),
        _with_value("{:.0%} missing sections", own.missing_section),
        _with_value("misalignment at {:.0%} of the sections", own.misalignment),
        _with_value("jitter of sections ({:g} px)", own.jitter_px),
        _with_value("{:.0%} partial sections", own.partial_section),
        _with_value("{:.0%} blurred sections", own.blurred_section),
        _with_value("{:.0%} shifted sections", own.shifted_section),
    ]
    known = [part for part in parts if part]
    return f"Patches were augmented at random: {_list(known)}." if known else ""


def _with_value(words: str, value: float) -> str:
    return words.format(value) if value else ""


def _prediction(text: CitingText, config: Config) -> None:
    copies = {
        "none": "",
        "flips": ", averaged over 4 mirror images",
        "symmetries": ", averaged over the 8 symmetries of the square",
        "flips_3d": ", averaged over 8 mirror images",
        "symmetries_3d": ", averaged over 16 symmetries",
        "cube": ", averaged over the 48 symmetries of the cube",
        "rotations": ", averaged over 7 rotations",
    }[config.predict.test_time_augmentation]
    text.add(f"Volumes were predicted by overlapping tiles, whose cut does not change the result{copies}.")


def _decoding(text: CitingText, config: Config, records: RunRecords) -> None:
    own, graph = records.segment, records.segment.agglomerate
    where = "in each section" if own.connectivity == "section" else "in 3-D"
    above = "" if records.threshold is None else f" above {records.threshold:g}"
    if own.method == "components":
        text.add(f"Objects are connected components {where} of the voxels{above}.")
    else:
        text.add(
            f"Voxels{above} were cut {where} into fragments by a watershed of distance to the membrane and probability."
        )
        text.add(_joining(text, own, records.agglomeration_threshold))
    if own.min_size:
        text.add(f"Objects of fewer than {own.min_size:,} voxels were dropped.")
    if own.method == "watershed" and graph.join_fragments_below:
        text.add(f"Objects of fewer than {graph.join_fragments_below:,} voxels were joined to a neighbour.")
    chosen = (
        own.decoder == "auto" or config.segment.threshold == "auto" or config.segment.agglomerate.threshold == "auto"
    )
    if chosen:
        text.add(f"Thresholds were chosen on {_list(config.evaluate.threshold_volumes)}.")


def _joining(text: CitingText, own: SegmentConfig, threshold: float | None) -> str:
    how = {
        "none": "",
        "mean": "the mean boundary probability of a contact",
        "quantile": f"quantile {own.agglomerate.quantile:g} of the boundary probability of a contact",
        "multicut": "multicut of the mean boundary probabilities",
        "average_linkage": "average linkage of their affinities",
        "mutex_watershed": "a mutex watershed of their affinities",
    }[own.agglomerate.method]
    if not how:
        return ""
    cited = {
        "multicut": ("multicut",),
        "average_linkage": ("gasp",),
        "mutex_watershed": ("mutex_watershed", "gasp"),
    }.get(own.agglomerate.method)
    at = "" if threshold is None else f", threshold {threshold:g}"
    return f"Fragments were joined by {how}{' ' + text.cite(*cited) if cited else ''}{at}."


def _evaluation(text: CitingText, config: Config, records: RunRecords) -> None:
    scored = list(records.scores)
    if not scored:
        return
    told = [f"adapted Rand error and V_rand {text.cite('rand')}", f"variation of information {text.cite('voi')}"]
    told.append(f"average precision {text.cite('average_precision')}")
    if any("erl_nm" in own for own in records.scores.values()):
        told.append(f"expected run length {text.cite('run_length')}")
    learnt = [name for name in learnt_volumes(config) if name in scored]
    held_out = [name for name in scored if name not in learnt]
    where = f"{_list(held_out)} (held out)" if held_out else ""
    where += f"{' and ' if held_out and learnt else ''}{_list(learnt)} (learnt from)" if learnt else ""
    text.add(f"Objects were scored on {where} by {_list(told)}.")


def _software(text: CitingText, records: RunRecords) -> None:
    versions = records.versions
    others = [
        f"{name} {version}" for name, version in versions.items() if name not in ("unet-em", "snakemake", "torch")
    ]
    known = [f"Snakemake {versions['snakemake']} {text.cite('snakemake')}"] if "snakemake" in versions else []
    known += [f"PyTorch {versions['torch']} {text.cite('pytorch')}"] if "torch" in versions else []
    text.add(f"All steps ran in unet-em {versions['unet-em']} with {_list([*known, *others])}.")


def _list(parts: Sequence[str]) -> str:
    """Return parts as people list them.

    >>> _list(["a"]), _list(["a", "b", "c"])
    ('a', 'a, b and c')
    """
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
