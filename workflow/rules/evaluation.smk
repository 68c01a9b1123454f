# Scores of the objects, and the report.
#
# Inputs:  segmentation.zarr, probability.zarr, labels.zarr and targets.zarr; the sweeps
# Outputs: evaluation.json of each volume with labels; {results}/report.html with its folder report, scores.json and
#          run_config.yaml
# Steps:   choose_threshold, agglomeration_threshold_sweep and choose_agglomeration_threshold -> evaluate -> report

from unet.run.provenance import configuration_text

EVALUATIONS = [INPUTS.evaluation(name) for name in CONFIG.evaluate.volumes]


rule choose_threshold:
    input:
        sweeps=receipts_of("threshold_sweep", CONFIG.evaluate.threshold_volumes),
    output:
        receipt=receipt("choose_threshold", "all"),
    log:
        f"{RESULTS}/logs/choose_threshold/all.log",
    benchmark:
        f"{RESULTS}/benchmarks/choose_threshold/all.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=memory("choose_threshold"),
        runtime=time_limit("choose_threshold"),
    params:
        code=code("choose_threshold"),
    message:
        "Choosing the threshold"
    script:
        "../../scripts/choose_threshold.py"


rule agglomeration_threshold_sweep:
    input:
        survey=receipt("survey", "{volume}"),
        check_model=receipt("check_model", "{volume}"),  # says the dimensions of the network
        intensity_statistics=receipt("intensity_statistics", "{volume}"),
        segmented=all_receipts("segment", "segmentation"),
        edges=all_receipts("region_graph"),
        labelled=per_job(lambda wildcards: INPUTS.labels(wildcards.volume)),
        checked=lambda wildcards: INPUTS.checked([wildcards.volume]),
    output:
        receipt=receipt("agglomeration_threshold_sweep", "{volume}"),
    log:
        f"{RESULTS}/logs/agglomeration_threshold_sweep/{{volume}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/agglomeration_threshold_sweep/{{volume}}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=memory("agglomeration_threshold_sweep"),
        runtime=time_limit("agglomeration_threshold_sweep"),
    params:
        folder=folder_of,
        segment=settings(CONFIG.segment, [*CHOOSING, *FINISHING]),
        code=code("agglomeration_threshold_sweep"),
    message:
        "Scoring every threshold of the agglomeration on {wildcards.volume}"
    script:
        "../../scripts/agglomeration_threshold_sweep.py"


rule choose_agglomeration_threshold:
    input:
        sweeps=receipts_of(
            "agglomeration_threshold_sweep", CONFIG.evaluate.threshold_volumes
        ),
    output:
        receipt=receipt("choose_agglomeration_threshold", "all"),
    log:
        f"{RESULTS}/logs/choose_agglomeration_threshold/all.log",
    benchmark:
        f"{RESULTS}/benchmarks/choose_agglomeration_threshold/all.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=memory("choose_agglomeration_threshold"),
        runtime=time_limit("choose_agglomeration_threshold"),
    params:
        code=code("choose_agglomeration_threshold"),
    message:
        "Choosing the threshold of the agglomeration"
    script:
        "../../scripts/choose_agglomeration_threshold.py"


rule evaluate:
    input:
        unpack(inputs_of("evaluate")),
        stale=stale("evaluate"),
    output:
        evaluation=INPUTS.evaluation("{volume}"),
        table=f"{RESULTS}/volumes/{{volume}}/overlap.npz",
    log:
        f"{RESULTS}/logs/evaluate/{{volume}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/evaluate/{{volume}}.tsv"
    conda:
        "../../environment.yml"
    threads: 2
    resources:
        mem_mb=memory("evaluate"),
        runtime=time_limit("evaluate"),
    params:
        folder=folder_of,
        foreground=CONFIG.segment.main_class,
        volume=lambda wildcards: settings(
            CONFIG.volumes[wildcards.volume], [*SURVEYED_WITH, "inside"]
        ),
        sections_alone=CONFIG.segment.sections_alone,
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
        **INPUTS.decoder,
        surveys=receipts_of("survey", CONFIG.predict.volumes),
        segmented=receipts_of("merge", CONFIG.predict.volumes, "segmentation"),
        relabelled=per_job(lambda _: INPUTS.segmentations()),
        evaluations=EVALUATIONS,
        tables=[
            f"{RESULTS}/volumes/{name}/overlap.npz" for name in CONFIG.evaluate.volumes
        ],
        suspected=receipts_of("suspected_merges", INPUTS.searched_for_merges),
        template=Path(workflow.basedir) / "report" / "report.html.j2",
        sections=sorted((Path(workflow.basedir) / "report" / "sections").glob("*.j2")),
        viewer=sorted((Path(workflow.basedir) / "report" / "viewer").iterdir()),
    output:
        **(
            {}
            if CONFIG.report.single_file
            else {"tiles": directory(f"{RESULTS}/report")}
        ),
        report=report(
            f"{RESULTS}/report.html",
            caption="../report/report.rst",
            category="Results",
        ),
        summary=f"{RESULTS}/scores.json",
        run_config=f"{RESULTS}/run_config.yaml",
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
        merged=lambda wildcards: configuration_text(CONFIG),
        code=code("report"),
    message:
        "Writing the report"
    script:
        "../../scripts/report.py"
