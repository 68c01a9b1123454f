# Image files become chunked, sharded OME-Zarr.
#
# Inputs:  the image files of each volume
# Outputs: raw.zarr, mask.zarr, classes.zarr or labels.zarr in {results}/volumes/{volume}/
# Steps:   sample (the generated volume) -> survey (headers, layout) -> fit (model and volumes are for each other)
#          -> ingest (a shard a job) -> histogram (a shard a job) -> grey_values (frozen statistics)


rule sample:
    output:
        raw=SAMPLED[0],
        labels=SAMPLED[1],
    log:
        f"{RESULTS}/logs/sample/sample.log",
    benchmark:
        f"{RESULTS}/benchmarks/sample/sample.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=memory("sample"),
        runtime=time_limit("sample"),
    params:
        sample=settings(CONFIG.sample),
        code=code("sample"),
    message:
        "Making the sample volume"
    script:
        "../../scripts/sample.py"


checkpoint survey:
    input:
        sampled=sampled,
        stale=lambda wildcards: stale("survey", wildcards.volume),
    output:
        receipt=receipt("survey", "{volume}"),
    log:
        f"{RESULTS}/logs/survey/{{volume}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/survey/{{volume}}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=memory("survey"),
        runtime=time_limit("survey"),
    params:
        name=lambda wildcards: wildcards.volume,
        volume=survey_settings,
        storage=settings(CONFIG.storage),
        code=code("survey"),
    message:
        "Reading the headers of {wildcards.volume}"
    script:
        "../../scripts/survey.py"


rule fit:
    input:
        surveys=lambda wildcards: [
            receipt("survey", name) for name in compared(wildcards.volume)
        ],
        stale=lambda wildcards: stale("fit", wildcards.volume),
    output:
        receipt=receipt("fit", "{volume}"),
    log:
        f"{RESULTS}/logs/fit/{{volume}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/fit/{{volume}}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=memory("fit"),
        runtime=time_limit("fit"),
    params:
        **given_model("checkpoint"),
        volumes=lambda wildcards: compared(wildcards.volume),
        trained_on=TRAINING_VOLUMES[0] if TRAINING_VOLUMES else None,
        model_config=settings(CONFIG.model, ["checkpoint"]),
        asked=asked_of_model(),
        normalisation=asked_of_normalisation(),
        tile=lambda wildcards: (
            CONFIG.train.tile if wildcards.volume in TRAINING_VOLUMES else None
        ),
        code=code("fit"),
    message:
        "Checking that the model fits {wildcards.volume}"
    script:
        "../../scripts/fit.py"


rule ingest:
    input:
        survey=receipt("survey", "{volume}"),
        fit=receipt("fit", "{volume}"),
        damage=lambda wildcards: damage_of("ingest", wildcards.volume, wildcards.shard),
    output:
        receipt=receipt("ingest", "{volume}", "{shard}"),
    log:
        f"{RESULTS}/logs/ingest/{{volume}}/{{shard}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/ingest/{{volume}}/{{shard}}.tsv"
    conda:
        "../../environment.yml"
    threads: 2
    resources:
        mem_mb=memory("ingest"),
        runtime=time_limit("ingest"),
    params:
        folder=folder_of,
        shard=lambda wildcards: wildcards.shard,
        volume=volume_settings,
        code=code("ingest"),
    message:
        "Ingesting {wildcards.volume}, shard {wildcards.shard}"
    script:
        "../../scripts/ingest.py"


rule histogram:
    input:
        survey=receipt("survey", "{volume}"),
        ingested=lambda wildcards: receipts_around("ingest", wildcards, HALO),
    output:
        receipt=receipt("histogram", "{volume}", "{shard}"),
    log:
        f"{RESULTS}/logs/histogram/{{volume}}/{{shard}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/histogram/{{volume}}/{{shard}}.tsv"
    conda:
        "../../environment.yml"
    threads: 2
    resources:
        mem_mb=memory("histogram"),
        runtime=time_limit("histogram"),
    params:
        folder=folder_of,
        shard=lambda wildcards: wildcards.shard,
        code=code("histogram"),
    message:
        "Counting the grey values of {wildcards.volume}, shard {wildcards.shard}"
    script:
        "../../scripts/histogram.py"


rule grey_values:
    input:
        survey=receipt("survey", "{volume}"),
        fit=receipt("fit", "{volume}"),
        counted=lambda wildcards: shard_receipts("histogram", wildcards.volume),
        shards=lambda wildcards: shard_receipts("ingest", wildcards.volume),
    output:
        receipt=receipt("grey_values", "{volume}"),
    log:
        f"{RESULTS}/logs/grey_values/{{volume}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/grey_values/{{volume}}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=memory("grey_values"),
        runtime=time_limit("grey_values"),
    params:
        normalisation=settings(CONFIG.normalisation),
        code=code("grey_values"),
    message:
        "Freezing the grey-value statistics of {wildcards.volume}"
    script:
        "../../scripts/grey_values.py"
