"""The volumes that each rule works on in a run, from the configuration alone."""

from operator import attrgetter

from unet.config.root import Config

used = attrgetter("used_volumes")
labelled = attrgetter("labelled_volumes")
annotated = attrgetter("annotated_volumes")
learning = attrgetter("learning_volumes")
predicted = attrgetter("predict.volumes")
scored = attrgetter("evaluate.volumes")


def sampled(config: Config) -> list[str]:
    """Return the volumes by which the cost of the sample is counted; none where no volume is a part of the sample."""
    parts = [name for name in config.used_volumes if config.is_sample(config.volumes[name])]
    return (config.learning_volumes or parts) if parts else []


def measured(config: Config) -> list[str]:
    """Return the volumes whose objects are measured in every run."""
    return config.predict.volumes if config.objects.in_every_run else []


def with_annotated_classes(config: Config) -> list[str]:
    """Return the labelled volumes whose labels are classes, out of which instances are made."""
    return [name for name in config.labelled_volumes if config.volumes[name].label_kind != "instances"]


def with_graph(config: Config) -> list[str]:
    """Return the predicted volumes where the segmentation needs a region graph."""
    return config.predict.volumes if config.segment.has_graph else []


def searched_for_merges(config: Config) -> list[str]:
    """Return the volumes in which merge errors are looked for."""
    return config.predict.volumes if config.segment.suspected_merges is not None else []


def choosing_threshold(config: Config) -> list[str]:
    """Return the volumes that choose the threshold. The segmentation needs it (`auto`), or the evaluation compares."""
    if config.model.output == "affinities":  # have no threshold of a class
        return []
    needed = config.segment.threshold == "auto" or config.evaluate.volumes
    return config.evaluate.threshold_volumes if needed else []


def threshold_swept(config: Config) -> list[str]:
    """Return the volumes that are scored at many thresholds of a class."""
    of_classes = config.evaluate.volumes if config.model.output == "classes" else []
    return list(dict.fromkeys([*of_classes, *choosing_threshold(config)]))


def choosing_agglomeration(config: Config) -> list[str]:
    """Return the volumes that choose the threshold of the agglomeration."""
    auto = config.segment.has_graph and config.segment.agglomerate.threshold == "auto"
    return config.evaluate.threshold_volumes if auto else []


def choosing_decoder(config: Config) -> list[str]:
    """Return the volumes that choose the decoder."""
    return config.evaluate.threshold_volumes if config.segment.decoder == "auto" else []
