# The network learns from the annotated volumes.
#
# Inputs:  labels.zarr (or classes.zarr) and raw.zarr of `train.volumes` and `train.validation`
# Outputs: targets.zarr, weights.zarr; {results}/model/model.pt and training.jsonl, copies of what is kept by fingerprint
#          in {results}/model/{fingerprint}/, which outlives other configurations
# Steps:   targets (classes with the separation border; ids for affinities) -> check_labels (of scored volumes, too)
#          -> weight_map (equation 2) -> train; on demand augmentation_preview

from unet.run.parameters import affinities_settings


rule targets:
    input:
        survey=receipt("survey", "{volume}"),
        check_model=receipt("check_model", "{volume}"),  # says the dimensions of the network
        intensity_statistics=receipt("intensity_statistics", "{volume}"),
        labelled=per_job(lambda wildcards: INPUTS.labels(wildcards.volume)),
        damage=damage("targets"),
    output:
        receipt=receipt("targets", "{volume}", "{block_range}"),
    log:
        f"{RESULTS}/logs/targets/{{volume}}/{{block_range}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/targets/{{volume}}/{{block_range}}.tsv"
    conda:
        "../../environment.yml"
    threads: 2
    resources:
        mem_mb=memory("targets"),
        runtime=time_limit("targets"),
    params:
        folder=folder_of,
        block_range=lambda wildcards: wildcards.block_range,
        volume=lambda wildcards: volume_settings(CONFIG, wildcards.volume),
        weights=settings(CONFIG.weights),
        output=CONFIG.model.output,
        code=code("targets"),
    message:
        "Drawing the targets of {wildcards.volume}, block range {wildcards.block_range}"
    script:
        "../../scripts/targets.py"


rule check_labels:
    input:
        unpack(inputs_of("check_labels")),
    output:
        receipt=receipt("check_labels", "{volume}"),
    log:
        f"{RESULTS}/logs/check_labels/{{volume}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/check_labels/{{volume}}.tsv"
    conda:
        "../../environment.yml"
    threads: 2
    resources:
        mem_mb=memory("check_labels"),
        runtime=time_limit("check_labels"),
    params:
        folder=folder_of,
        volume=lambda wildcards: volume_settings(CONFIG, wildcards.volume),
        label_check=lambda wildcards: CONFIG.volumes[wildcards.volume].label_check,
        used=lambda wildcards: wildcards.volume in CONFIG.labelled_volumes,
        held_back=lambda wildcards: CONFIG.held_back_share(wildcards.volume),
        output=CONFIG.model.output,
        code=code("check_labels"),
    message:
        "Checking the labels of {wildcards.volume}"
    script:
        "../../scripts/check_labels.py"


rule weight_map:
    input:
        survey=receipt("survey", "{volume}"),
        own_targets=all_receipts("targets"),
        training_targets=per_job(lambda _: receipts_of("targets", TRAINING_VOLUMES)),
        checked=receipt("check_labels", "{volume}"),  # labels that cannot be right take hours here
        damage=damage("weight_map"),
    output:
        receipt=receipt("weight_map", "{volume}", "{block_range}"),
    log:
        f"{RESULTS}/logs/weight_map/{{volume}}/{{block_range}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/weight_map/{{volume}}/{{block_range}}.tsv"
    conda:
        "../../environment.yml"
    threads: 2
    resources:
        mem_mb=memory("weight_map"),
        runtime=time_limit("weight_map"),
    params:
        folder=folder_of,
        block_range=lambda wildcards: wildcards.block_range,
        weights=settings(CONFIG.weights),
        affinities=affinities_settings(CONFIG),
        code=code("weight_map"),
    message:
        "Computing the weight map of {wildcards.volume}, block range {wildcards.block_range}"
    script:
        "../../scripts/weight_map.py"


rule train:
    input:
        unpack(inputs_of("train")),
    output:
        model=f"{RESULTS}/model/model.pt",
        curve=f"{RESULTS}/model/training.jsonl",
        receipt=receipt("train", "model"),
    log:
        f"{RESULTS}/logs/train/model.log",
    benchmark:
        f"{RESULTS}/benchmarks/train/model.tsv"
    conda:
        "../../environment.yml"
    threads: TRAIN_THREADS
    resources:
        gpu=CONFIG.train.gpus,
        mem_mb=memory("train"),
        runtime=time_limit("train"),
    params:
        folders=INPUTS.folders(LEARNING_VOLUMES),
        model_config=settings(CONFIG.model, ["checkpoint", "voxel_size_tolerance"]),
        train=settings(CONFIG.train),
        classes=CONFIG.class_names if LEARNING_VOLUMES else [],
        code=code("train"),
    message:
        "Training the network"
    script:
        "../../scripts/train.py"


rule augmentation_preview:
    input:
        surveys=receipts_of("survey", TRAINING_VOLUMES[:1]),
        intensity_statistics=receipts_of("intensity_statistics", TRAINING_VOLUMES[:1]),
        targets=per_job(lambda _: receipts_of("targets", TRAINING_VOLUMES[:1])),
        weighted=per_job(lambda _: receipts_of("weight_map", TRAINING_VOLUMES[:1])),
        template=Path(workflow.basedir) / "report" / "augmentation.html.j2",
        report_template=Path(workflow.basedir) / "report" / "report.html.j2",
    output:
        page=f"{RESULTS}/augmentation.html",
    log:
        f"{RESULTS}/logs/augmentation_preview/augmentation.log",
    benchmark:
        f"{RESULTS}/benchmarks/augmentation_preview/augmentation.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=memory("augmentation_preview"),
        runtime=time_limit("augmentation_preview"),
    params:
        folders=INPUTS.folders(TRAINING_VOLUMES[:1]),
        model_config=settings(CONFIG.model),
        tile=settings(CONFIG.train)["tile"],
        loss_region=CONFIG.train.loss_region,
        augment=settings(CONFIG.train.augment),
        seed=CONFIG.train.seed,
        code=code("augmentation_preview"),
    message:
        "Drawing the augmentation"
    script:
        "../../scripts/augmentation_preview.py"
