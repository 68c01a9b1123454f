# The results in a browser, whenever it is asked for: `snakemake view`.
#
# Inputs:  the stores of a volume, as they are
# Outputs: a link on the terminal; with `view.state` a file for a neuroglancer of one's own
# Steps:   view


# It has neither inputs nor outputs: it makes nothing first, locks nothing, and may be asked for while a run goes on.


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
