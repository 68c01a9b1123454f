# The trained model for other programs, whenever it is asked for: `snakemake export`.
#
# Inputs:  the trained model; raw.zarr of the first predicted volume, for a test tile
# Outputs: {results}/model/model.onnx; {results}/model/bioimageio.zip for ilastik and deepImageJ
# Steps:   export

EXPORT_VOLUMES = CONFIG.predict.volumes[:1]


rule export:
    input:
        **INPUTS.model,
        surveys=receipts_of("survey", EXPORT_VOLUMES),
        check_model=receipts_of("check_model", EXPORT_VOLUMES),  # say which model file is given
        intensity_statistics=receipts_of("intensity_statistics", EXPORT_VOLUMES),
    output:
        onnx=f"{RESULTS}/model/model.onnx",
        package=f"{RESULTS}/model/bioimageio.zip",
        receipt=receipt("export", "model"),
    log:
        f"{RESULTS}/logs/export/model.log",
    benchmark:
        f"{RESULTS}/benchmarks/export/model.tsv"
    conda:
        "../../environment.yml"
    threads: 4
    resources:
        mem_mb=memory("export"),
        runtime=time_limit("export"),
    params:
        **given_model(CONFIG),
        folders=INPUTS.folders(EXPORT_VOLUMES),
        export=settings(CONFIG.export),
        code=code("export"),
    message:
        "Exporting the model"
    script:
        "../../scripts/export.py"
