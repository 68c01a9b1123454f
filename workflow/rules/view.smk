# The results in a browser, on request: `snakemake view`.
#
# Inputs:  the stores of a volume, as they are
# Outputs: a link on the terminal; with `view.state` a file for a neuroglancer of one's own
# Steps:   view


# The rule has neither inputs nor outputs. It makes nothing first, locks nothing, and can be started while a run goes on.


rule view:
    log:
        f"{RESULTS}/logs/view/view.log",
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=memory("view"),
        runtime=time_limit("view"),
    params:
        config=settings(CONFIG),
    message:
        "Serving the results to a browser"
    script:
        "../../scripts/view.py"
