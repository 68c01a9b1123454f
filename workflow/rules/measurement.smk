# Measurements of the objects, on request: `snakemake objects`, `snakemake meshes`, `snakemake skeletons`.
#
# Inputs:  segmentation.zarr, probability.zarr, labels.zarr; second stores (`volumes.<name>.inside`)
# Outputs: objects.csv, contacts.csv and inside-*.csv of each predicted volume, and the same as Parquet; meshes/ and
#          meshes.csv, and a section of the report; skeletons/ and skeletons.csv
# Steps:   measure (counts of each block) -> objects; surface_faces -> meshes; measure (bounding boxes) -> skeletons

MEASURED_VOLUMES = CONFIG.predict.volumes
OBJECT_TABLES = [
    path for name in MEASURED_VOLUMES for path in INPUTS.object_tables(name)
]
NOT_FOR_COUNTS = [
    *("threshold", "watershed", "agglomerate", "max_section_gap", "max_offset_px"),
    *(*CHOOSING, *FINISHING),
]
NOT_MEASURED = [*SURVEYED_WITH, "compare", "skeletons", "label_check"]


rule measure:
    input:
        unpack(inputs_of("measure")),
    output:
        receipt=receipt("measure", "{volume}", "{block_range}"),
    log:
        f"{RESULTS}/logs/measure/{{volume}}/{{block_range}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/measure/{{volume}}/{{block_range}}.tsv"
    conda:
        "../../environment.yml"
    threads: 2
    resources:
        mem_mb=memory("measure"),
        runtime=time_limit("measure"),
    params:
        folder=folder_of,
        block_range=lambda wildcards: wildcards.block_range,
        segment=settings(CONFIG.segment, NOT_FOR_COUNTS),
        has_labels=lambda wildcards: wildcards.volume in CONFIG.labelled_volumes,
        code=code("measure"),
    message:
        "Measuring the objects of {wildcards.volume}, block range {wildcards.block_range}"
    script:
        "../../scripts/measure.py"


rule objects:
    input:
        unpack(inputs_of("objects")),
        stale=per_job(
            lambda _: [
                marker
                for name in MEASURED_VOLUMES
                for marker in [
                    *CHANGES.markers("objects", name),
                    *INPUTS.damage("objects", name, "all"),
                ]
            ]
        ),
    output:
        tables=OBJECT_TABLES,
        receipts=[INPUTS.objects_receipt(name) for name in MEASURED_VOLUMES],
    log:
        f"{RESULTS}/logs/objects/all.log",
    benchmark:
        f"{RESULTS}/benchmarks/objects/all.tsv"
    conda:
        "../../environment.yml"
    threads: 2
    resources:
        mem_mb=memory("objects"),
        runtime=time_limit("objects"),
    params:
        folders=INPUTS.folders(MEASURED_VOLUMES),
        volumes=[
            settings(CONFIG.volumes[name], NOT_MEASURED) for name in MEASURED_VOLUMES
        ],
        classes=CONFIG.segment.classes,
        objects=settings(CONFIG.objects, ["in_every_run"]),
        code=code("objects"),
    message:
        "Writing the tables of objects"
    script:
        "../../scripts/objects.py"


rule surface_faces:
    input:
        unpack(inputs_of("surface_faces")),
    output:
        receipt=receipt("surface_faces", "{volume}", "{block_range}"),
    log:
        f"{RESULTS}/logs/surface_faces/{{volume}}/{{block_range}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/surface_faces/{{volume}}/{{block_range}}.tsv"
    conda:
        "../../environment.yml"
    threads: 2
    resources:
        mem_mb=memory("surface_faces"),
        runtime=time_limit("surface_faces"),
    params:
        folder=folder_of,
        block_range=lambda wildcards: wildcards.block_range,
        meshes=settings(CONFIG.meshes, ["formats", "smoothing", "reduction"]),
        code=code("surface_faces"),
    message:
        "Finding the surfaces of {wildcards.volume}, block range {wildcards.block_range}"
    script:
        "../../scripts/surface_faces.py"


rule meshes:
    input:
        unpack(inputs_of("meshes")),
    output:
        tables=INPUTS.tables_named("meshes.csv"),
        receipts=[receipt("meshes", name, "all") for name in MEASURED_VOLUMES],
    log:
        f"{RESULTS}/logs/meshes/all.log",
    benchmark:
        f"{RESULTS}/benchmarks/meshes/all.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=memory("meshes"),
        runtime=time_limit("meshes"),
    params:
        folders=INPUTS.folders(MEASURED_VOLUMES),
        meshes=settings(CONFIG.meshes),
        report=f"{RESULTS}/report.html",
        template=str(Path(workflow.basedir) / "report" / "meshes.html.j2"),
        code=code("meshes"),
    message:
        "Making meshes"
    script:
        "../../scripts/meshes.py"


rule skeletons:
    input:
        unpack(inputs_of("skeletons")),
    output:
        tables=INPUTS.tables_named("skeletons.csv"),
        receipts=[receipt("skeletons", name, "all") for name in MEASURED_VOLUMES],
    log:
        f"{RESULTS}/logs/skeletons/all.log",
    benchmark:
        f"{RESULTS}/benchmarks/skeletons/all.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=memory("skeletons"),
        runtime=time_limit("skeletons"),
    params:
        folders=INPUTS.folders(MEASURED_VOLUMES),
        skeletons=settings(CONFIG.skeletons),
        code=code("skeletons"),
    message:
        "Making skeletons"
    script:
        "../../scripts/skeletons.py"
