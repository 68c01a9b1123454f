# One consistent set of instances, the same whatever the blocks and shards.
#
# Inputs:  probability.zarr (store `segmentation`) or classes.zarr (store `labels`, for interior and class annotations)
# Outputs: segmentation.zarr or labels.zarr
# Steps:   segment (fragments of each block) -> merge (one global union) -> relabel (final ids, with the pyramid)


rule segment:
    input:
        unpack(segment_inputs),
    output:
        receipt=receipt("segment", "{volume}", "{store}", "{shard}"),
    log:
        f"{RESULTS}/logs/segment/{{volume}}/{{store}}/{{shard}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/segment/{{volume}}/{{store}}/{{shard}}.tsv"
    conda:
        "../../environment.yml"
    threads: 2
    resources:
        mem_mb=memory("segment"),
        runtime=time_limit("segment"),
    params:
        folder=folder_of,
        shard=lambda wildcards: wildcards.shard,
        store=lambda wildcards: wildcards.store,
        segment=settings(CONFIG.segment),
        code=code("segment"),
    message:
        "Labelling the blocks of {wildcards.volume}, shard {wildcards.shard}"
    script:
        "../../scripts/segment.py"


rule merge:
    input:
        survey=receipt("survey", "{volume}"),
        segmented=lambda wildcards: shard_receipts(
            "segment", wildcards.volume, wildcards.store
        ),
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
        store=lambda wildcards: wildcards.store,
        minimum_size=lambda wildcards: (
            CONFIG.segment.minimum_size if wildcards.store == "segmentation" else 0
        ),
        first_id=lambda wildcards: (
            CONFIG.segment.first_id if wildcards.store == "segmentation" else 1
        ),
        code=code("merge"),
    message:
        "Merging the fragments of {wildcards.volume}"
    script:
        "../../scripts/merge.py"


rule relabel:
    input:
        survey=receipt("survey", "{volume}"),
        merged=receipt("merge", "{volume}", "{store}"),
        damage=lambda wildcards: damage_of(
            "relabel", wildcards.volume, wildcards.store, wildcards.shard
        ),
    output:
        receipt=receipt("relabel", "{volume}", "{store}", "{shard}"),
    log:
        f"{RESULTS}/logs/relabel/{{volume}}/{{store}}/{{shard}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/relabel/{{volume}}/{{store}}/{{shard}}.tsv"
    conda:
        "../../environment.yml"
    threads: 2
    resources:
        mem_mb=memory("relabel"),
        runtime=time_limit("relabel"),
    params:
        folder=folder_of,
        shard=lambda wildcards: wildcards.shard,
        store=lambda wildcards: wildcards.store,
        code=code("relabel"),
    message:
        "Writing the ids of {wildcards.volume}, shard {wildcards.shard}"
    script:
        "../../scripts/relabel.py"
