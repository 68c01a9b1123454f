# Overlap-tile inference over whole volumes.
#
# Inputs:  raw.zarr, its frozen statistics, and the trained model
# Outputs: probability.zarr; the ISBI scores of every threshold where there are labels
# Steps:   predict (a block range per job, one GPU each) -> threshold_sweep


rule predict:
    input:
        **INPUTS.model,
        survey=receipt("survey", "{volume}"),
        check_model=receipt("check_model", "{volume}"),  # says which model file is given
        intensity_statistics=receipt("intensity_statistics", "{volume}"),
        damage=damage("predict"),
    output:
        receipt=receipt("predict", "{volume}", "{block_range}"),
    log:
        f"{RESULTS}/logs/predict/{{volume}}/{{block_range}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/predict/{{volume}}/{{block_range}}.tsv"
    conda:
        "../../environment.yml"
    threads: PREDICT_THREADS
    resources:
        gpu=PREDICT_GPUS,
        mem_mb=memory("predict"),
        runtime=time_limit("predict"),
    params:
        **given_model(CONFIG),
        folder=folder_of,
        block_range=lambda wildcards: wildcards.block_range,
        predict=settings(CONFIG.predict, leave_out=["volumes", "job_voxels"]),
        slurm=settings(CONFIG.slurm),
        worker_logs=f"{RESULTS}/logs/predict/{{volume}}/{{block_range}}-workers",
        code=code("predict"),
    message:
        "Predicting {wildcards.volume}, block range {wildcards.block_range}"
    script:
        "../../scripts/predict.py"


rule threshold_sweep:
    input:
        survey=receipt("survey", "{volume}"),
        check_model=receipt("check_model", "{volume}"),  # says the dimensions of the network
        intensity_statistics=receipt("intensity_statistics", "{volume}"),
        predicted=all_receipts("predict"),
        labelled=per_job(lambda wildcards: INPUTS.labels(wildcards.volume)),
        checked=lambda wildcards: INPUTS.checked([wildcards.volume]),
    output:
        receipt=receipt("threshold_sweep", "{volume}"),
    log:
        f"{RESULTS}/logs/threshold_sweep/{{volume}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/threshold_sweep/{{volume}}.tsv"
    conda:
        "../../environment.yml"
    threads: 2
    resources:
        mem_mb=memory("threshold_sweep"),
        runtime=time_limit("threshold_sweep"),
    params:
        folder=folder_of,
        foreground=CONFIG.segment.main_class,
        code=code("threshold_sweep"),
    message:
        "Scoring every threshold on {wildcards.volume}"
    script:
        "../../scripts/threshold_sweep.py"
