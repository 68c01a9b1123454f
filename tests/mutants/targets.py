"""Targets of `python -m tests.mutants`: modules with their tests, written mutants, and equivalent ones."""

TARGETS: dict[str, tuple[int, tuple[str, ...]]] = {
    "unet/geometry/tiling.py": (8, ()),
    "unet/geometry/network_sizes.py": (3, ("geometry/test_tiling.py",)),
    "unet/storage/files.py": (6, ()),
    "unet/jobs/journal.py": (8, ()),
    "unet/jobs/blockwise.py": (5, ()),
    "unet/storage/locks.py": (6, ()),
    "unet/volumes/readers/section_order.py": (4, ()),
    "unet/volumes/readers/axes.py": (4, ("volumes/readers/test_ome_zarr.py", "volumes/readers/test_hdf5_axes.py")),
    "unet/volumes/readers/mrc_header.py": (4, ("volumes/readers/test_mrc.py",)),
    "unet/volumes/readers/tiff_pages.py": (4, ("volumes/readers/test_tiff.py", "volumes/readers/test_tiff_damage.py")),
    "unet/volumes/readers/n5.py": (3, ()),
    "unet/segmentation/fragments.py": (7, ("segmentation/test_components.py", "segmentation/test_merging.py")),
    "unet/segmentation/affinities.py": (4, ()),
    "unet/segmentation/affinity_graph.py": (4, ("segmentation/test_affinities.py",)),
    "unet/training/affinities.py": (4, ()),
    "unet/training/affinity_loss.py": (3, ()),
    "unet/segmentation/region_graph.py": (4, ("segmentation/test_merging.py",)),
    "unet/segmentation/edge_slabs.py": (2, ("segmentation/test_merging.py",)),
    "unet/segmentation/merge_part.py": (6, ("segmentation/test_merge_tree.py", "segmentation/test_merging.py")),
    "unet/segmentation/merge_tree.py": (5, ()),
    "unet/segmentation/settling.py": (7, ("segmentation/test_merge_tree.py",)),
    "unet/segmentation/small_objects.py": (3, ("segmentation/test_merge_tree.py", "segmentation/test_signed_graph.py")),
    "unet/training/weight_map.py": (8, ()),
    "unet/training/loss.py": (4, ()),
    "unet/training/state.py": (3, ("training/test_trainer.py", "training/test_trainer_resumed.py")),
    "unet/training/trainer.py": (7, ("training/test_trainer_resumed.py", "training/test_trainer_divergence.py")),
    "unet/evaluation/contingency.py": (7, ()),
    "unet/evaluation/scores.py": (4, ()),
    "unet/evaluation/decoders.py": (4, ()),
    "unet/segmentation/steepest_ascent.py": (0, ("segmentation/test_watershed.py",)),
    "unet/storage/zarr_store.py": (0, ("storage/test_locks.py",)),
    "unet/storage/local_folder.py": (0, ("storage/test_zarr_store.py",)),
}
"""Modules that hold the promises: how many mutants are drawn, and files below `tests/unit` beside that of the name."""

GROUPS = {
    "unet/geometry/tiling.py": "tiling",
    "unet/geometry/network_sizes.py": "tiling",
    "unet/storage/files.py": "block files",
    "unet/storage/zarr_store.py": "block files",
    "unet/storage/local_folder.py": "block files",
    "unet/jobs/journal.py": "receipts",
    "unet/jobs/blockwise.py": "receipts",
    "unet/storage/locks.py": "locks",
    "unet/volumes/readers/section_order.py": "readers",
    "unet/volumes/readers/axes.py": "readers",
    "unet/volumes/readers/mrc_header.py": "readers",
    "unet/volumes/readers/tiff_pages.py": "readers",
    "unet/volumes/readers/n5.py": "readers",
    "unet/segmentation/fragments.py": "fragments",
    "unet/segmentation/watershed.py": "fragments",
    "unet/segmentation/steepest_ascent.py": "fragments",
    "unet/segmentation/affinities.py": "affinities and graph",
    "unet/segmentation/affinity_graph.py": "affinities and graph",
    "unet/segmentation/region_graph.py": "affinities and graph",
    "unet/segmentation/edge_slabs.py": "affinities and graph",
    "unet/training/affinities.py": "affinities and graph",
    "unet/training/affinity_loss.py": "affinities and graph",
    "unet/segmentation/merge_part.py": "merge tree",
    "unet/segmentation/merge_tree.py": "merge tree",
    "unet/segmentation/settling.py": "merge tree",
    "unet/segmentation/small_objects.py": "merge tree",
    "unet/training/weight_map.py": "weight map",
    "unet/training/loss.py": "loss",
    "unet/training/state.py": "training resume",
    "unet/training/trainer.py": "training resume",
    "unet/evaluation/contingency.py": "overlap metrics",
    "unet/evaluation/scores.py": "overlap metrics",
    "unet/evaluation/isbi.py": "overlap metrics",
    "unet/evaluation/decoders.py": "decoder choice",
}
"""Row of the table in which a module is counted."""

BY_HAND: dict[str, tuple[tuple[str, str], ...]] = {
    "unet/segmentation/fragments.py": (("(size >= min_size)", "(size >= 0)"),),
    "unet/evaluation/isbi.py": (("(splits + mergers)", "splits"),),
    "unet/jobs/journal.py": (("if box and self._key in line and", "if box and"),),
    "unet/storage/files.py": (("            os.link(partial, path)", "            os.replace(partial, path)"),),
    "unet/training/trainer.py": (
        (
            "logits = centre_crop(logits, batch.target.shape[-(logits.ndim - 2) :])",
            "logits = logits[(..., *map(slice, batch.target.shape[-(logits.ndim - 2) :]))]",
        ),
        ("if old and is_stable(self.state.losses, self.config.spike_factor):", "if old:"),
        ("config.clip_norm or inf)", "inf)"),
        ("seed_of_step(config.seed, step, self.rank.index)", "seed_of_step(config.seed, 0, self.rank.index)"),
        ("self.rank.index * self.config.batch, self.config.seed, self.state.step", "0, self.config.seed, 0"),
        ("if run.stop_requested and run.state.step < config.steps:", "if run.stop_requested:"),
    ),
    "unet/segmentation/region_graph.py": (("np.floor(size_mismatch_penalty", "np.ceil(size_mismatch_penalty"),),
    "unet/segmentation/watershed.py": (
        ("    np.multiply(height, FOREGROUND_SCALE, out=height, where=foreground)\n", ""),
    ),
    "unet/segmentation/steepest_ascent.py": (
        (
            "level_pairs = _level_neighbours(height, known, is_maximum, axes)",
            "level_pairs = np.empty((0, 2), np.int64)",
        ),
    ),
    "unet/storage/zarr_store.py": (("            lock_exclusive(writers)\n", ""),),
    "unet/storage/local_folder.py": (("        (self.path / METADATA).unlink(missing_ok=True)\n", ""),),
    "unet/storage/locks.py": (
        ("if file is None or not _is_file_of(file, path):", "if file is None:"),
        ("    finally:\n        release()\n", "    finally:\n        pass\n"),
    ),
}
"""Changes that a review found unnoticed: text that a module holds once, and what replaces it."""

EQUIVALENT: dict[tuple[str, str], str] = {
    (
        "unet/storage/files.py",
        "_rename_if_absent: time.monotonic() > deadline -> (time.monotonic() >= deadline)",
    ): "a clock hits a deadline exactly with probability 0, and the wait is 10 s then instead of 10.05 s",
    (
        "unet/storage/files.py",
        "save_arrays.write: 1 -> (2)",
    ): "the level of compression: the arrays that are read are the same",
    (
        "unet/jobs/journal.py",
        "add_figures: zip(total[key], value, strict=True) -> (zip(value, total[key], strict=True))",
    ): "a sum of numbers does not depend on their order",
    (
        "unet/volumes/readers/section_order.py",
        "_ordered: if other is column: continue -> pass",
    ): "a column gives the order that it gives, and its gaps are known",
    (
        "unet/segmentation/merge_part.py",
        "_near: np.int64 -> np.int32",
    ): "numbers of components of a part are below 2^31, and are added to 64 bits",
    (
        "unet/segmentation/small_objects.py",
        "join_certain: np.int64 -> np.int32",
    ): "numbers of objects are below 2^31",
    (
        "unet/evaluation/scores.py",
        "VolumeScores.add: np.bincount(pairs, minlength=self.classes**2).reshape(self.classes, self.classes) -> "
        "(np.bincount(pairs, minlength=self.classes ** 2).reshape(self.classes, self.classes))",
    ): "the two arguments that are exchanged are equal",
    (
        "unet/evaluation/decoders.py",
        "decoder_scores: 0 -> (1)",
    ): "no object has less than one voxel",
    (
        "unet/volumes/readers/tiff_pages.py",
        "_is_grey_ramp: 0 -> (1)",
    ): "the rows of the table are equal by then",
    (
        "unet/training/weight_map.py",
        "_can_improve: live &= nearest < (ceil((cutoff - dy) ** 2) + 1) << bits -> pass",
    ): "only leaves out pixels whose candidates can no longer win: without it the same result comes later",
    (
        "unet/segmentation/edge_slabs.py",
        "gather_edges.components: np.int64 -> np.int32",
    ): "numbers of blocks, and of the labels of one block, are below 2^28 (`block_edges` refuses more)",
    (
        "unet/segmentation/affinity_graph.py",
        "_sums_of_offset: np.uint64 -> np.uint32",
    ): "the other operand of each shift, comparison and maximum is of 64 bits, so that the result is too",
    (
        "unet/evaluation/scores.py",
        "VolumeScores.add: np.int64 -> np.int32",
    ): "a pair of classes is at most 255 * 255",
}
"""Mutants that change nothing that a caller can see, by module and name, and why."""
