# Image files become chunked, sharded OME-Zarr.
#
# Inputs:  the image files of each volume
# Outputs: raw.zarr, mask.zarr, classes.zarr or labels.zarr in {results}/volumes/{volume}/
# Steps:   sample (the generated volume) -> survey (headers, layout) -> check_model (model and volumes fit each other)
#          -> ingest (a block range per job) -> histogram (a block range per job) -> intensity_statistics (frozen statistics)

from unet.run.parameters import asked_of_model, asked_of_normalisation, compared_model
from unet.volumes.input_states import SCORED_WITH


rule sample:
    output:
        raw=INPUTS.sample_files[0],
        labels=INPUTS.sample_files[1],
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


rule survey:
    input:
        sampled=lambda wildcards: INPUTS.sampled(wildcards.volume),
        stale=stale("survey"),
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
        volume=lambda wildcards: settings(CONFIG.volumes[wildcards.volume], SCORED_WITH),
        storage=settings(CONFIG.storage),
        code=code("survey"),
    message:
        "Reading the headers of {wildcards.volume}"
    script:
        "../../scripts/survey.py"


rule check_model:
    input:
        surveys=lambda wildcards: receipts_of(
            "survey", INPUTS.compared_volumes(wildcards.volume)
        ),
        stale=stale("check_model"),
    output:
        receipt=receipt("check_model", "{volume}"),
    log:
        f"{RESULTS}/logs/check_model/{{volume}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/check_model/{{volume}}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=memory("check_model"),
        runtime=time_limit("check_model"),
    params:
        **compared_model(CONFIG),
        check_weights=lambda wildcards: bool(CONFIG.model.checkpoint)
        and wildcards.volume == CONFIG.used_volumes[0],
        volumes=lambda wildcards: INPUTS.compared_volumes(wildcards.volume),
        trained_on=TRAINING_VOLUMES[0] if TRAINING_VOLUMES else None,
        model_config=settings(CONFIG.model, ["checkpoint"]),
        asked=asked_of_model(CONFIG),
        normalisation=asked_of_normalisation(CONFIG),
        tile=lambda wildcards: (
            CONFIG.train.tile if wildcards.volume in TRAINING_VOLUMES else None
        ),
        loss_region=CONFIG.train.loss_region,
        code=code("check_model"),
    message:
        "Checking that the model fits {wildcards.volume}"
    script:
        "../../scripts/check_model.py"


rule ingest:
    input:
        survey=receipt("survey", "{volume}"),
        check_model=receipt("check_model", "{volume}"),
        damage=damage("ingest"),
    output:
        receipt=receipt("ingest", "{volume}", "{block_range}"),
    log:
        f"{RESULTS}/logs/ingest/{{volume}}/{{block_range}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/ingest/{{volume}}/{{block_range}}.tsv"
    conda:
        "../../environment.yml"
    threads: 2
    resources:
        mem_mb=memory("ingest"),
        runtime=time_limit("ingest"),
    params:
        folder=folder_of,
        block_range=lambda wildcards: wildcards.block_range,
        volume=lambda wildcards: volume_settings(CONFIG, wildcards.volume),
        code=code("ingest"),
    message:
        "Ingesting {wildcards.volume}, block range {wildcards.block_range}"
    script:
        "../../scripts/ingest.py"


rule histogram:
    input:
        unpack(inputs_of("histogram")),
    output:
        receipt=receipt("histogram", "{volume}", "{block_range}"),
    log:
        f"{RESULTS}/logs/histogram/{{volume}}/{{block_range}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/histogram/{{volume}}/{{block_range}}.tsv"
    conda:
        "../../environment.yml"
    threads: 2
    resources:
        mem_mb=memory("histogram"),
        runtime=time_limit("histogram"),
    params:
        folder=folder_of,
        block_range=lambda wildcards: wildcards.block_range,
        code=code("histogram"),
    message:
        "Counting the grey values of {wildcards.volume}, block range {wildcards.block_range}"
    script:
        "../../scripts/histogram.py"


rule intensity_statistics:
    input:
        survey=receipt("survey", "{volume}"),
        check_model=receipt("check_model", "{volume}"),
        counted=all_receipts("histogram"),
        block_ranges=all_receipts("ingest"),
    output:
        receipt=receipt("intensity_statistics", "{volume}"),
    log:
        f"{RESULTS}/logs/intensity_statistics/{{volume}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/intensity_statistics/{{volume}}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=memory("intensity_statistics"),
        runtime=time_limit("intensity_statistics"),
    params:
        normalisation=settings(CONFIG.normalisation),
        code=code("intensity_statistics"),
    message:
        "Freezing the grey-value statistics of {wildcards.volume}"
    script:
        "../../scripts/intensity_statistics.py"
