# What the objects are: tables of objects and of their contacts, whenever they are asked for: `snakemake objects`.
#
# Inputs:  segmentation.zarr, probability.zarr, labels.zarr; second stores (`volumes.<name>.inside`)
# Outputs: objects.csv, contacts.csv and inside-*.csv of each predicted volume, and the same as Parquet
# Steps:   measure (counts of each block) -> objects

MEASURED_VOLUMES = CONFIG.predict.volumes
OBJECT_TABLES = [
    path for name in MEASURED_VOLUMES for path in INPUTS.object_tables(name)
]
NOT_FOR_COUNTS = [
    *("threshold", "watershed", "agglomerate", "max_section_gap", "max_offset_px"),
    *("fill_holes", "min_size", "first_id"),
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
