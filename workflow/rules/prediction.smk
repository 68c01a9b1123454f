# Overlap-tile inference over whole volumes.
#
# Inputs:  raw.zarr, its frozen statistics, and the trained model
# Outputs: probability.zarr; the ISBI scores of every threshold where there are labels
# Steps:   predict (a shard a job, one GPU each) -> sweep


rule predict:
    input:
        **trained_model(),
        survey=receipt("survey", "{volume}"),
        fit=receipt("fit", "{volume}"),  # says which model file is given
        grey_values=receipt("grey_values", "{volume}"),
        damage=lambda wildcards: damage_of("predict", wildcards.volume, wildcards.shard),
    output:
        receipt=receipt("predict", "{volume}", "{shard}"),
    log:
        f"{RESULTS}/logs/predict/{{volume}}/{{shard}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/predict/{{volume}}/{{shard}}.tsv"
    conda:
        "../../environment.yml"
    threads: PREDICT_THREADS
    resources:
        gpu=PREDICT_GPUS,
        mem_mb=memory("predict"),
        runtime=time_limit("predict"),
    params:
        **given_model(),
        folder=folder_of,
        shard=lambda wildcards: wildcards.shard,
        predict=settings(CONFIG.predict, leave_out=["volumes", "shard_voxels"]),
        slurm=settings(CONFIG.slurm),
        worker_logs=f"{RESULTS}/logs/predict/{{volume}}/{{shard}}-workers",
        code=code("predict"),
    message:
        "Predicting {wildcards.volume}, shard {wildcards.shard}"
    script:
        "../../scripts/predict.py"


rule sweep:
    input:
        survey=receipt("survey", "{volume}"),
        grey_values=receipt("grey_values", "{volume}"),
        predicted=lambda wildcards: shard_receipts("predict", wildcards.volume),
        labelled=lambda wildcards: labels_receipts(wildcards.volume),
        checked=lambda wildcards: checked([wildcards.volume]),
    output:
        receipt=receipt("sweep", "{volume}"),
    log:
        f"{RESULTS}/logs/sweep/{{volume}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/sweep/{{volume}}.tsv"
    conda:
        "../../environment.yml"
    threads: 2
    resources:
        mem_mb=memory("sweep"),
        runtime=time_limit("sweep"),
    params:
        folder=folder_of,
        foreground=CONFIG.segment.main_class,
        ignore_id=lambda wildcards: CONFIG.volumes[wildcards.volume].ignore_id,
        dimensions=CONFIG.model.dimensions,
        code=code("sweep"),
    message:
        "Scoring every threshold on {wildcards.volume}"
    script:
        "../../scripts/sweep.py"
