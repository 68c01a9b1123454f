# One consistent set of instances, which does not depend on blocks and block ranges.
#
# Inputs:  probability.zarr (store `segmentation`) or classes.zarr (store `labels`, for interior and class annotations)
# Outputs: segmentation.zarr or labels.zarr
# Steps:   segment (fragments of each block) -> region_graph (which fragments touch, for a watershed or filled holes)
#          -> merge_part (parts of a large volume, joined as a tree) -> merge -> relabel (final ids, with the pyramid);
#          suspected_merges (weak contacts inside objects)

from unet.run.parameters import segment_settings, separated_axes

LABELLING = [
    *CHOOSING,
    "agglomerate",
    "max_section_gap",
    "max_offset_px",
    *FINISHING,
]
MERGING = [
    *CHOOSING,
    "threshold",
    "watershed",
    "max_section_gap",
    "max_offset_px",
    "foreground",
    "suspected_merges",
    "separate_objects",
    "merge_voxels",
]


rule segment:
    input:
        unpack(inputs_of("segment")),
    output:
        receipt=receipt("segment", "{volume}", "{store}", "{block_range}"),
    log:
        f"{RESULTS}/logs/segment/{{volume}}/{{store}}/{{block_range}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/segment/{{volume}}/{{store}}/{{block_range}}.tsv"
    conda:
        "../../environment.yml"
    threads: 2
    resources:
        mem_mb=memory("segment"),
        runtime=time_limit("segment"),
    params:
        folder=folder_of,
        block_range=lambda wildcards: wildcards.block_range,
        store=lambda wildcards: wildcards.store,
        segment=lambda wildcards: segment_settings(CONFIG, wildcards.store, LABELLING),
        background=lambda wildcards: (
            wildcards.store == "segmentation"
            and CONFIG.segment.method == "components"
            and CONFIG.segment.fill_holes > 0
        ),
        code=code("segment"),
    message:
        "Labelling the blocks of {wildcards.volume}, block range {wildcards.block_range}"
    script:
        "../../scripts/segment.py"


rule region_graph:
    input:
        unpack(inputs_of("region_graph")),
    output:
        receipt=receipt("region_graph", "{volume}", "{block_range}"),
    log:
        f"{RESULTS}/logs/region_graph/{{volume}}/{{block_range}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/region_graph/{{volume}}/{{block_range}}.tsv"
    conda:
        "../../environment.yml"
    threads: 2
    resources:
        mem_mb=memory("region_graph"),
        runtime=time_limit("region_graph"),
    params:
        folder=folder_of,
        block_range=lambda wildcards: wildcards.block_range,
        segment=settings(CONFIG.segment, [*CHOOSING, "agglomerate", *FINISHING]),
        code=code("region_graph"),
    message:
        "Finding which fragments of {wildcards.volume} touch, block range {wildcards.block_range}"
    script:
        "../../scripts/region_graph.py"


rule merge_part:
    input:
        unpack(inputs_of("merge_part")),
    output:
        receipt=receipt("merge_part", "{volume}", "{store}", "{part}"),
    log:
        f"{RESULTS}/logs/merge_part/{{volume}}/{{store}}/{{part}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/merge_part/{{volume}}/{{store}}/{{part}}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=memory("merge_part"),
        runtime=time_limit("merge_part"),
    params:
        folder=folder_of,
        part=lambda wildcards: wildcards.part,
        layers_per_part=lambda wildcards: INPUTS.layers_per_part(wildcards.volume),
        store=lambda wildcards: wildcards.store,
        segment=lambda wildcards: segment_settings(
            CONFIG, wildcards.store, [*MERGING, "min_size", "first_id"]
        ),
        code=code("merge_part"),
    message:
        "Merging the fragments of {wildcards.volume}, layers of blocks {wildcards.part}"
    script:
        "../../scripts/merge_part.py"


rule merge:
    input:
        unpack(inputs_of("merge")),
    output:
        receipt=receipt("merge", "{volume}", "{store}"),
    log:
        f"{RESULTS}/logs/merge/{{volume}}/{{store}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/merge/{{volume}}/{{store}}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=memory("merge"),
        runtime=time_limit("merge"),
    params:
        folder=folder_of,
        layers_per_part=lambda wildcards: INPUTS.layers_per_part(wildcards.volume),
        store=lambda wildcards: wildcards.store,
        segment=lambda wildcards: segment_settings(CONFIG, wildcards.store, MERGING),
        code=code("merge"),
    message:
        "Merging the fragments of {wildcards.volume}"
    script:
        "../../scripts/merge.py"


rule relabel:
    input:
        survey=receipt("survey", "{volume}"),
        merged=receipt("merge", "{volume}", "{store}"),
        damage=damage("relabel"),
    output:
        receipt=receipt("relabel", "{volume}", "{store}", "{block_range}"),
    log:
        f"{RESULTS}/logs/relabel/{{volume}}/{{store}}/{{block_range}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/relabel/{{volume}}/{{store}}/{{block_range}}.tsv"
    conda:
        "../../environment.yml"
    threads: 2
    resources:
        mem_mb=memory("relabel"),
        runtime=time_limit("relabel"),
    params:
        folder=folder_of,
        block_range=lambda wildcards: wildcards.block_range,
        store=lambda wildcards: wildcards.store,
        separated_axes=lambda wildcards: separated_axes(CONFIG, wildcards.store),
        code=code("relabel"),
    message:
        "Writing the ids of {wildcards.volume}, block range {wildcards.block_range}"
    script:
        "../../scripts/relabel.py"


rule suspected_merges:
    input:
        unpack(inputs_of("suspected_merges")),
    output:
        receipt=receipt("suspected_merges", "{volume}"),
        table=f"{RESULTS}/volumes/{{volume}}/suspected_merges.csv",
    log:
        f"{RESULTS}/logs/suspected_merges/{{volume}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/suspected_merges/{{volume}}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=memory("suspected_merges"),
        runtime=time_limit("suspected_merges"),
    params:
        folder=folder_of,
        segment=settings(
            CONFIG.segment,
            ["fill_holes", "min_size", "first_id", "separate_objects", "merge_voxels"],
        ),
        code=code("suspected_merges"),
    message:
        "Looking for merge errors in {wildcards.volume}"
    script:
        "../../scripts/suspected_merges.py"
