# How good it is, and one page that says so.
#
# Inputs:  segmentation.zarr, probability.zarr, labels.zarr and targets.zarr; the sweeps
# Outputs: evaluation.json of each volume with labels; {results}/report.html
# Steps:   threshold (from the training volumes) -> evaluate -> report


rule threshold:
    input:
        sweeps=[receipt("sweep", name) for name in CONFIG.evaluate.threshold_volumes],
    output:
        receipt=receipt("threshold", "all"),
    log:
        f"{RESULTS}/logs/threshold/all.log",
    benchmark:
        f"{RESULTS}/benchmarks/threshold/all.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=memory("threshold"),
        runtime=time_limit("threshold"),
    params:
        code=code("threshold"),
    message:
        "Choosing the threshold"
    script:
        "../../scripts/threshold.py"


rule evaluate:
    input:
        unpack(evaluation_inputs),
    output:
        evaluation=f"{RESULTS}/volumes/{{volume}}/evaluation.json",
    log:
        f"{RESULTS}/logs/evaluate/{{volume}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/evaluate/{{volume}}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=memory("evaluate"),
        runtime=time_limit("evaluate"),
    params:
        folder=folder_of,
        foreground=CONFIG.segment.foreground,
        ignore_id=lambda wildcards: CONFIG.volumes[wildcards.volume].ignore_id,
        connectivity=CONFIG.segment.connectivity,
        fixed_threshold=(
            None if CONFIG.segment.threshold == "auto" else CONFIG.segment.threshold
        ),
        code=code("evaluate"),
    message:
        "Scoring {wildcards.volume}"
    script:
        "../../scripts/evaluate.py"


rule report:
    input:
        surveys=[receipt("survey", name) for name in CONFIG.predict.volumes],
        segmented=[
            receipt("merge", name, "segmentation") for name in CONFIG.predict.volumes
        ],
        relabelled=lambda wildcards: [
            r
            for name in CONFIG.predict.volumes
            for r in shard_receipts("relabel", name, "segmentation")
        ],
        evaluations=[
            f"{RESULTS}/volumes/{name}/evaluation.json"
            for name in CONFIG.evaluate.volumes
        ],
        template=Path(workflow.basedir) / "report" / "report.html.j2",
    output:
        report=report(
            f"{RESULTS}/report.html",
            caption="../report/report.rst",
            category="Results",
        ),
        summary=f"{RESULTS}/scores.json",
    log:
        f"{RESULTS}/logs/report/report.log",
    benchmark:
        f"{RESULTS}/benchmarks/report/report.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=memory("report"),
        runtime=time_limit("report"),
    params:
        results=results_folder,
        config=settings(CONFIG),
        code=code("report"),
    message:
        "Writing the report"
    script:
        "../../scripts/report.py"
