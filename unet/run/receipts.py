"""The receipts of the jobs of a run: their paths, by rule, volume, block range and store.

Pure functions of the configuration, of the layouts of the volumes, and of the markers beside stale receipts.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from unet.config.root import Config
from unet.geometry.block_ranges import (
    block_range_count,
    block_range_names,
    ranges_around,
    ranges_of_layers,
    voxels_per_job,
)
from unet.geometry.box import Index
from unet.run.plan.limits import too_many_ranges
from unet.run.rules import RULES
from unet.volumes.integrity import StaleMarkers
from unet.volumes.layout import VolumeLayout


class TooManyRangesError(ValueError):
    """A volume has more block ranges than a run can be planned with; the message says what to set."""


@dataclass(frozen=True)
class Receipts:
    """Paths of the receipts that the jobs of a run write.

    Parameters
    ----------
    config : Config
        The configuration.
    results : str
        Folder of everything that is written.
    layout_of : callable
        Return the layout of a volume by its name; None where its headers cannot be read. Such a volume has no block
        ranges, and no other job than `survey`.
    markers : StaleMarkers
        Markers of stale receipts.
    """

    config: Config
    results: str
    layout_of: Callable[[str], VolumeLayout | None]
    markers: StaleMarkers
    _names: dict[tuple[str, int], tuple[VolumeLayout, list[str]]] = field(default_factory=dict, init=False, repr=False)

    # Paths

    def receipt(self, rule: str, *path: str) -> str:
        """Return the path of a job's receipt."""
        return f"{self.results}/receipts/{rule}/{'/'.join(path)}.json"

    def evaluation(self, volume: str) -> str:
        """Return the path of a volume's scores."""
        return f"{self.results}/volumes/{volume}/evaluation.json"

    def objects_receipt(self, volume: str) -> str:
        """Return the path of the receipt of a volume's tables of objects."""
        return self.receipt("objects", volume, "all")

    def tables_named(self, name: str) -> list[str]:
        """Return the paths of a table of all predicted volumes, such as `meshes.csv`."""
        return [f"{folder}/{name}" for folder in self.folders(self.config.predict.volumes)]

    def object_tables(self, volume: str) -> list[str]:
        """Return the paths of a volume's tables of objects: of objects, of contacts, and of what lies inside."""
        names = ["objects", "contacts", *(f"inside-{name}" for name in self.config.volumes[volume].inside)]
        suffixes = ["csv", "parquet"] if self.config.objects.parquet else ["csv"]
        return [f"{self.results}/volumes/{volume}/{name}.{suffix}" for name in names for suffix in suffixes]

    def folders(self, volumes: Iterable[str]) -> list[str]:
        """Return the folders of the stores of volumes."""
        return [f"{self.results}/volumes/{name}" for name in volumes]

    # Receipts of all jobs of a rule

    def block_ranges(self, volume: str, rule: str = "predict") -> list[str]:
        """Return the names of a volume's block ranges, as a rule divides it: all blockwise rules but `ingest` alike.

        Raises
        ------
        TooManyRangesError
            If there are more than a run can be planned with.
        """
        layout = self.layout_of(volume)
        if layout is None:
            return []
        together = RULES[rule].together(layout)
        known = self._names.get((volume, together))
        if known is None or known[0] != layout:  # a survey may run again; there may be ten thousand names
            voxels = voxels_per_job(layout.shape, self.config.predict.job_voxels)
            problem = too_many_ranges(volume, block_range_count(layout.grid, voxels, together), layout.shape)
            if problem is not None:
                raise TooManyRangesError(problem)
            known = self._names[volume, together] = layout, block_range_names(layout.grid, voxels, together)
        return known[1]

    def receipts(self, rule: str, volume: str, *store: str) -> list[str]:
        """Return the receipts of all jobs of a rule on a volume: of every block range where the rule is blockwise."""
        if not RULES[rule].blockwise:
            return [self.receipt(rule, volume, *store)]
        return [self.receipt(rule, volume, *store, name) for name in self.block_ranges(volume, rule)]

    def receipts_of(self, rule: str, volumes: Iterable[str], *store: str) -> list[str]:
        """Return the receipts of all jobs of a rule on some volumes."""
        return [path for name in volumes for path in self.receipts(rule, name, *store)]

    def receipts_around(self, rule: str, volume: str, block_range: str, margin: Index, *store: str) -> list[str]:
        """Return the receipts of the block ranges that a job reads.

        Parameters
        ----------
        block_range : str
            Block range of the job.
        margin : Index
            Voxels along z, y, x that the job reads around its blocks.
        """
        layout = self.layout_of(volume)
        if layout is None:
            return []
        count = len(self.block_ranges(volume, rule))
        names = ranges_around(layout.grid, block_range, margin, count, RULES[rule].together(layout))
        return [self.receipt(rule, volume, *store, name) for name in names]

    def receipts_of_layers(self, rule: str, volume: str, layers: range, *store: str) -> list[str]:
        """Return the receipts of the block ranges that hold blocks of some layers."""
        layout = self.layout_of(volume)
        if layout is None:
            return []
        names = self.block_ranges(volume, rule)
        own = ranges_of_layers(layout.grid, layers, len(names))
        return [self.receipt(rule, volume, *store, names[number]) for number in own]

    def halo(self, rule: str, volume: str) -> Index:
        """Return the voxels along z, y, x that the jobs of a rule read around their blocks."""
        layout = self.layout_of(volume)
        return (0, 0, 0) if layout is None else RULES[rule].halo(self.config, layout)

    # Markers

    def damage(self, rule: str, *path: str) -> list[Path]:
        """Return the marker that files of a finished job were deleted or cut short, as an input that reruns the job."""
        return self.markers.of(Path(self.receipt(rule, *path)))

    def made_by(self, rule: str, volume: str) -> Path:
        """Return the file that says that a rule which reads the user's files is done."""
        if rule == "objects":
            return Path(self.objects_receipt(volume))
        return Path(self.evaluation(volume) if rule == "evaluate" else self.receipt(rule, volume))
