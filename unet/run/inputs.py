"""The inputs of every job: receipts of the jobs before it, by rule, volume, block range and store.

The rules in `workflow/rules/*.smk` ask `RunInputs`. Its methods have the names of the rules.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from unet.config.inputs import source_files
from unet.geometry.part_tree import TreePart, tree_of_parts
from unet.run.merge_parts import layers_per_part, merge_tree
from unet.run.receipts import Receipts
from unet.run.rules import RULES

Inputs = dict[str, str | list[str] | list[Path]]
"""Files that a job reads, by the names under which its script gets them."""


class RunInputs(Receipts):
    """The inputs of the jobs of a run."""

    # Volumes

    @property
    def training_volumes(self) -> list[str]:
        """Volumes that the network learns from; none where a model file is given."""
        return [] if self.config.model.checkpoint else self.config.train.volumes

    @property
    def sample_files(self) -> list[str]:
        """Image files that the rule `sample` makes."""
        return [f"{self.results}/sample/raw.tif", f"{self.results}/sample/labels.tif"]

    def sampled(self, volume: str) -> list[str]:
        """Return the image files of a volume that the rule `sample` makes."""
        given = [path for key, path in source_files(self.config).items() if key.startswith(f"volumes.{volume}.")]
        return [file for file in self.sample_files if Path(file) in given]

    def compared_volumes(self, volume: str) -> list[str]:
        """Return a volume, and the first one that the network learns from."""
        return list(dict.fromkeys([volume, *self.training_volumes[:1]]))

    # Parts of inputs

    @property
    def model(self) -> Inputs:
        """The trained model where this workflow trains it.

        A given model file is a parameter instead, since the user's files are compared by their content.
        """
        return {} if self.config.model.checkpoint else {"model": f"{self.results}/model/model.pt"}

    def labels(self, volume: str) -> list[str]:
        """Return the receipts of a volume's store `labels`: ingested instances, or instances made from classes."""
        if self.config.volumes[volume].label_kind == "instances":
            return self.receipts("intensity_statistics", volume)
        return self.receipts("relabel", volume, "labels")

    def made(self, store: str, volume: str) -> list[str]:
        """Return the receipts of the jobs that write a store."""
        if store == "segmentation" or (store == "labels" and self.config.volumes[volume].label_kind != "instances"):
            return self.receipts("relabel", volume, store)
        rules = {"probability": "predict", "targets": "targets", "weights": "weight_map"}
        return self.receipts(rules.get(store, "ingest"), volume)

    def export(self, rule: str) -> Inputs:
        """Return the stores that `export_tiff`, `export_precomputed` or `export_webknossos` reads."""
        asked, volume = getattr(self.config, rule), self.exported_volume(rule)
        stores = [asked.store] if rule == "export_tiff" else asked.stores
        made = list(dict.fromkeys(path for store in stores for path in self.made(store, volume)))
        damage = [] if rule == "export_tiff" else self.damage(rule, volume, "all")
        return {"survey": self.receipt("survey", volume), "made": made, "damage": damage}

    def exported_volume(self, rule: str) -> str:
        """Return the name of the volume that an export reads."""
        return self.config.volume_or_first(getattr(self.config, rule).volume)

    @property
    def exported_tiff(self) -> str:
        """Return the file that `export_tiff` writes; its name holds store and box."""
        asked = self.config.export_tiff
        box = "".join(f"-{axis}{lo}-{hi}" for axis, (lo, hi) in zip("zyx", asked.box or (), strict=False))
        return f"{self.results}/exports/{self.exported_volume('export_tiff')}/{asked.store}{box}.ome.tif"

    def checked(self, volumes: Iterable[str]) -> list[str]:
        """Return the receipts of the label checks of those volumes that have labels."""
        return self.receipts_of("check_labels", [name for name in volumes if name in self.config.annotated_volumes])

    @property
    def searched_for_merges(self) -> list[str]:
        """Volumes in which merge errors are looked for."""
        return [name for name, _ in RULES["suspected_merges"].targets(self.config) if name]

    def segmentations(self) -> list[str]:
        """Return the receipts of the segmentations of all predicted volumes."""
        return self.receipts_of("relabel", self.config.predict.volumes, "segmentation")

    # Inputs of a rule

    def check_labels(self, volume: str) -> Inputs:
        """Return the labels of a volume where they are used. A training volume needs the labels of all of them, since
        each has to show all classes."""
        inputs: Inputs = {"survey": self.receipt("survey", volume)}
        if volume in self.config.labelled_volumes:
            inputs["intensity_statistics"] = self.receipt("intensity_statistics", volume)
            inputs["targets"] = self.receipts("targets", volume)
        if volume in self.training_volumes:
            inputs["training_targets"] = self.receipts_of("targets", self.training_volumes)
        return inputs

    def train(self) -> Inputs:
        """Return the grey values, targets and weights of all volumes that a training reads."""
        learning = self.config.learning_volumes
        continued = self.receipts_of("check_model", learning[:1]) if self.config.train.start_from else []
        return {
            **({"continued": continued} if continued else {}),
            "surveys": self.receipts_of("survey", learning),
            "intensity_statistics": self.receipts_of("intensity_statistics", learning),
            "targets": self.receipts_of("targets", learning),
            "weighted": self.receipts_of("weight_map", learning),
            "checked": self.checked(learning),
            "lost": self.damage("train", "model"),
        }

    def histogram(self, volume: str, block_range: str) -> Inputs:
        """Return the grey values of a block range and of the pixels around it that decide what is constant."""
        return {
            "survey": self.receipt("survey", volume),
            "ingested": self.receipts_around("ingest", volume, block_range, self.halo("histogram", volume)),
            "damage": self.damage("histogram", volume, block_range),
        }

    def segment(self, volume: str, store: str, block_range: str) -> Inputs:
        """Return the probabilities or classes of a block range; for a watershed also those around it."""
        segmentation = store == "segmentation"
        source = "predict" if segmentation else "ingest"
        halo = self.halo("segment", volume) if segmentation else (0, 0, 0)  # classes are labelled by components
        inputs: Inputs = {
            "survey": self.receipt("survey", volume),
            "made": self.receipts_around(source, volume, block_range, halo),
            "damage": self.damage("segment", volume, store, block_range),
        }
        if segmentation and self.config.segment.threshold == "auto":
            inputs["threshold"] = self.receipt("choose_threshold", "all")
        return inputs | (self.decoder if segmentation else {})

    @property
    def decoder(self) -> Inputs:
        """The settings of the decoding, where they are chosen together."""
        return {"decoder": self.receipt("choose_decoder", "all")} if self.config.segment.decoder == "auto" else {}

    def candidate_fragments(self, volume: str, block_range: str) -> Inputs:
        """Return the probabilities of a block range and of those around it."""
        halo = self.halo("candidate_fragments", volume)
        return {
            "survey": self.receipt("survey", volume),
            "made": self.receipts_around("predict", volume, block_range, halo),
            "damage": self.damage("candidate_fragments", volume, block_range),
        }

    def candidate_graph(self, volume: str, block_range: str) -> Inputs:
        """Return the candidate fragments of a block range and of the voxels beside it, over skipped sections too."""
        halo = self.halo("candidate_graph", volume)
        return {
            "survey": self.receipt("survey", volume),
            "segmented": self.receipts_around("candidate_fragments", volume, block_range, halo),
            "damage": self.damage("candidate_graph", volume, block_range),
        }

    def region_graph(self, volume: str, block_range: str) -> Inputs:
        """Return the fragments of a block range and of the voxels beside it, over skipped sections too."""
        halo = self.halo("region_graph", volume)
        return {
            "survey": self.receipt("survey", volume),
            "segmented": self.receipts_around("segment", volume, block_range, halo, "segmentation"),
            "damage": self.damage("region_graph", volume, block_range),
            **self.decoder,
        }

    def merge_part(self, volume: str, store: str, part: str) -> Inputs:
        """Return the fragments of a part of a volume, and its region graph; or the parts that it joins."""
        return self._merged_part(self.merge_tree(volume).named(part), "merge_part", volume, store, part)

    def merge(self, volume: str, store: str) -> Inputs:
        """Return the fragments of a volume, and its region graph; or the last parts, where it is merged in several."""
        return self._merged_part(self.merge_tree(volume), "merge", volume, store)

    def _merged_part(self, part: TreePart, rule: str, volume: str, store: str, *name: str) -> Inputs:
        joined = [self.receipt("merge_part", volume, store, child.name) for child in part.children]
        inputs = self._graph_of(part, volume, store)
        made = joined or [*inputs.pop("segmented"), *inputs.pop("edges", [])]
        chosen: Inputs = {key: inputs[key] for key in ("threshold", "decoder") if key in inputs}
        survey, damage = self.receipt("survey", volume), self.damage(rule, volume, store, *name)
        return {"survey": survey, "made": made, "damage": damage, **chosen}

    def _graph_of(self, part: TreePart, volume: str, store: str) -> dict[str, Any]:
        """Return the fragments of a part, and the region graph with what chose its threshold where there is one."""
        found: dict[str, Any] = {"segmented": self.receipts_of_layers("segment", volume, part.layers, store)}
        if store == "segmentation" and self.config.segment.has_graph:
            found["edges"] = self.receipts_of_layers("region_graph", volume, part.layers)
            if self.config.segment.agglomerate.threshold == "auto":
                found["threshold"] = self.receipt("choose_agglomeration_threshold", "all")
            found |= self.decoder
        return found

    def layers_per_part(self, volume: str) -> int:
        """Return the layers of blocks of each part in which a volume is merged."""
        layout = self.layout_of(volume)
        return 1 if layout is None else layers_per_part(self.config, layout)

    def merge_tree(self, volume: str) -> TreePart:
        """Return the parts in which a volume is merged."""
        layout = self.layout_of(volume)
        return tree_of_parts(1, 1) if layout is None else merge_tree(self.config, layout)

    def suspected_merges(self, volume: str) -> Inputs:
        """Return the fragments of a volume, its region graph and its objects, and the threshold that joined them."""
        return {
            "survey": self.receipt("survey", volume),
            **self._graph_of(self.merge_tree(volume), volume, "segmentation"),
            "merged": self.receipt("merge", volume, "segmentation"),
        }

    def measure(self, volume: str, block_range: str) -> Inputs:
        """Return the objects and probabilities of a block range and of the voxels beside it, and the labels."""
        halo = self.halo("measure", volume)
        return {
            "survey": self.receipt("survey", volume),
            "segmented": self.receipts_around("relabel", volume, block_range, halo, "segmentation"),
            "predicted": self.receipts_around("predict", volume, block_range, halo),
            "labelled": self.labels(volume) if volume in self.config.labelled_volumes else [],
            "damage": self.damage("measure", volume, block_range),
        }

    def objects(self) -> Inputs:
        """Return the counts of all blocks of the predicted volumes, and their merge tables."""
        volumes = self.config.predict.volumes
        return {
            "surveys": self.receipts_of("survey", volumes),
            "measured": self.receipts_of("measure", volumes),
            "merged": self.receipts_of("merge", volumes, "segmentation"),
        }

    def surface_faces(self, volume: str, block_range: str) -> Inputs:
        """Return the objects of a block range and of the voxels behind it, and the merge table."""
        halo = self.halo("surface_faces", volume)
        return {
            "survey": self.receipt("survey", volume),
            "segmented": self.receipts_around("relabel", volume, block_range, halo, "segmentation"),
            "merged": self.receipt("merge", volume, "segmentation"),
            "damage": self.damage("surface_faces", volume, block_range),
        }

    def meshes(self) -> Inputs:
        """Return the faces of the chosen objects of all predicted volumes, and their merge tables."""
        volumes = self.config.predict.volumes
        damage = [marker for name in volumes for marker in self.damage("meshes", name, "all")]
        found = self.receipts_of("surface_faces", volumes)
        return {
            "surveys": self.receipts_of("survey", volumes),
            "merged": self.receipts_of("merge", volumes, "segmentation"),
            "found": found,
            "damage": damage,
        }

    def skeletons(self) -> Inputs:
        """Return the segmentations of all predicted volumes, and their merge tables."""
        volumes = self.config.predict.volumes
        return {
            "surveys": self.receipts_of("survey", volumes),
            "segmented": self.receipts_of("relabel", volumes, "segmentation"),
            "measured": self.receipts_of("measure", volumes),
            "merged": self.receipts_of("merge", volumes, "segmentation"),
            "damage": [marker for name in volumes for marker in self.damage("skeletons", name, "all")],
        }

    def evaluate(self, volume: str) -> Inputs:
        """Return the segmentation and the labels of a scored volume, without the note on changed files."""
        inputs: Inputs = {
            "survey": self.receipt("survey", volume),
            "segmented": self.receipts("relabel", volume, "segmentation"),
            "targets": self.receipts("targets", volume),
            "checked": self.checked([volume]),
        }
        if self.config.model.output == "affinities":
            return inputs
        inputs["sweep"] = self.receipt("threshold_sweep", volume)
        if self.config.evaluate.threshold_volumes:
            inputs["threshold"] = self.receipt("choose_threshold", "all")
        return inputs
