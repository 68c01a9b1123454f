# Before a run and after it.
#
# Inputs:  the configuration; the finished stores
# Outputs: the estimated cost, on the terminal; {results}/receipts/verify/all.json, and a section of the report
# Steps:   plan; verify


# Neither declares an output or a benchmark, which counts as one, so each runs whenever it is asked for.


rule plan:
    log:
        f"{RESULTS}/logs/plan/plan.log",
    conda:
        "../../environment.yml"
    threads: PREDICT_THREADS
    resources:
        mem_mb=memory("plan"),
        runtime=time_limit("plan"),
    params:
        plan=f"{RESULTS}/plan.json",
        config=settings(CONFIG),
    message:
        "Estimating the cost"
    script:
        "../../scripts/plan.py"


rule verify:
    input:
        **INPUTS.model,
        surveys=receipts_of("survey", CONFIG.predict.volumes),
        intensity_statistics=receipts_of("intensity_statistics", CONFIG.predict.volumes),
        predicted=per_job(lambda _: receipts_of("predict", CONFIG.predict.volumes)),
    log:
        f"{RESULTS}/logs/verify/verify.log",
    conda:
        "../../environment.yml"
    threads: 4
    resources:
        gpu=1,
        mem_mb=memory("verify"),
        runtime=time_limit("verify"),
    params:
        **given_model(CONFIG),
        receipt=receipt("verify", "all"),
        results=results_folder,
        template=str(Path(workflow.basedir) / "report" / "checks.html.j2"),
        predict=settings(CONFIG.predict),
        verify=settings(CONFIG.verify),
    message:
        "Checking the results against the model"
    script:
        "../../scripts/verify.py"
