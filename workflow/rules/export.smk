# Model and stores for other programs, on request: `snakemake export`, `snakemake export_tiff` ...
#
# Inputs:  the trained model, and raw.zarr of the first predicted volume for a test tile; the stores of a volume
# Outputs: {results}/model/model.onnx; {results}/model/bioimageio.zip for ilastik and deepImageJ;
#          {results}/exports/{volume}: OME-TIFF, precomputed, webknossos
# Steps:   export; export_tiff; export_precomputed; export_webknossos

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


rule export_tiff:
    input:
        unpack(per_job(lambda _: INPUTS.export("export_tiff"))),
    output:
        tiff=INPUTS.exported_tiff,
    log:
        f"{RESULTS}/logs/export_tiff/tiff.log",
    benchmark:
        f"{RESULTS}/benchmarks/export_tiff/tiff.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=memory("export_tiff"),
        runtime=time_limit("export_tiff"),
    params:
        folder=INPUTS.folders([INPUTS.exported_volume("export_tiff")])[0],
        export=settings(CONFIG.export_tiff),
        code=code("export_tiff"),
    message:
        "Writing a TIFF"
    script:
        "../../scripts/export_tiff.py"


rule export_precomputed:
    input:
        unpack(per_job(lambda _: INPUTS.export("export_precomputed"))),
    output:
        receipt=receipt(
            "export_precomputed", INPUTS.exported_volume("export_precomputed"), "all"
        ),
    log:
        f"{RESULTS}/logs/export_precomputed/all.log",
    benchmark:
        f"{RESULTS}/benchmarks/export_precomputed/all.tsv"
    conda:
        "../../environment.yml"
    threads: 2
    resources:
        mem_mb=memory("export_precomputed"),
        runtime=time_limit("export_precomputed"),
    params:
        folder=INPUTS.folders([INPUTS.exported_volume("export_precomputed")])[0],
        results=results_folder,
        export=settings(CONFIG.export_precomputed),
        code=code("export_precomputed"),
    message:
        "Writing precomputed volumes"
    script:
        "../../scripts/export_precomputed.py"


rule export_webknossos:
    input:
        unpack(per_job(lambda _: INPUTS.export("export_webknossos"))),
    output:
        receipt=receipt(
            "export_webknossos", INPUTS.exported_volume("export_webknossos"), "all"
        ),
    log:
        f"{RESULTS}/logs/export_webknossos/all.log",
    benchmark:
        f"{RESULTS}/benchmarks/export_webknossos/all.tsv"
    conda:
        "../../environment.yml"
    threads: 2
    resources:
        mem_mb=memory("export_webknossos"),
        runtime=time_limit("export_webknossos"),
    params:
        folder=INPUTS.folders([INPUTS.exported_volume("export_webknossos")])[0],
        results=results_folder,
        export=settings(CONFIG.export_webknossos),
        code=code("export_webknossos"),
    message:
        "Writing a dataset of WEBKNOSSOS"
    script:
        "../../scripts/export_webknossos.py"
