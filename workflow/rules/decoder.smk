# The settings of the decoding, chosen together (segment.decoder: auto), on sections that the network did not learn from.
#
# Inputs:  probability.zarr and labels.zarr of evaluate.threshold_volumes
# Outputs: candidate-fragments.zarr and candidate-tables; the receipt of choose_decoder
# Steps:   candidate_fragments -> candidate_graph -> decoder_sweep (each volume) -> choose_decoder (all volumes)

from unet.run.parameters import candidate_settings


rule candidate_fragments:
    input:
        unpack(inputs_of("candidate_fragments")),
    output:
        receipt=receipt("candidate_fragments", "{volume}", "{block_range}"),
    log:
        f"{RESULTS}/logs/candidate_fragments/{{volume}}/{{block_range}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/candidate_fragments/{{volume}}/{{block_range}}.tsv"
    conda:
        "../../environment.yml"
    threads: 2
    resources:
        mem_mb=memory("candidate_fragments"),
        runtime=time_limit("candidate_fragments"),
    params:
        folder=folder_of,
        block_range=lambda wildcards: wildcards.block_range,
        segment=candidate_settings(
            CONFIG, ["max_offset_px", "methods", "thresholds", "join_fragments_below"]
        ),
        code=code("candidate_fragments"),
    message:
        "Labelling the blocks of {wildcards.volume} for each candidate, block range {wildcards.block_range}"
    script:
        "../../scripts/candidate_fragments.py"


rule candidate_graph:
    input:
        unpack(inputs_of("candidate_graph")),
    output:
        receipt=receipt("candidate_graph", "{volume}", "{block_range}"),
    log:
        f"{RESULTS}/logs/candidate_graph/{{volume}}/{{block_range}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/candidate_graph/{{volume}}/{{block_range}}.tsv"
    conda:
        "../../environment.yml"
    threads: 2
    resources:
        mem_mb=memory("candidate_graph"),
        runtime=time_limit("candidate_graph"),
    params:
        folder=folder_of,
        block_range=lambda wildcards: wildcards.block_range,
        segment=candidate_settings(
            CONFIG, ["methods", "thresholds", "join_fragments_below"]
        ),
        code=code("candidate_graph"),
    message:
        "Finding which candidate fragments of {wildcards.volume} touch, block range {wildcards.block_range}"
    script:
        "../../scripts/candidate_graph.py"


rule decoder_sweep:
    input:
        survey=receipt("survey", "{volume}"),
        check_model=receipt("check_model", "{volume}"),  # says the dimensions of the network
        intensity_statistics=receipt("intensity_statistics", "{volume}"),
        segmented=all_receipts("candidate_fragments"),
        edges=all_receipts("candidate_graph"),
        labelled=per_job(lambda wildcards: INPUTS.labels(wildcards.volume)),
        checked=lambda wildcards: INPUTS.checked([wildcards.volume]),
    output:
        receipt=receipt("decoder_sweep", "{volume}"),
    log:
        f"{RESULTS}/logs/decoder_sweep/{{volume}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/decoder_sweep/{{volume}}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=memory("decoder_sweep"),
        runtime=time_limit("decoder_sweep"),
    params:
        folder=folder_of,
        segment=settings(CONFIG.segment, FINISHING),
        code=code("decoder_sweep"),
    message:
        "Scoring every candidate decoder on {wildcards.volume}"
    script:
        "../../scripts/decoder_sweep.py"


rule choose_decoder:
    input:
        sweeps=receipts_of("decoder_sweep", CONFIG.evaluate.threshold_volumes),
    output:
        receipt=receipt("choose_decoder", "all"),
    log:
        f"{RESULTS}/logs/choose_decoder/all.log",
    benchmark:
        f"{RESULTS}/benchmarks/choose_decoder/all.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=memory("choose_decoder"),
        runtime=time_limit("choose_decoder"),
    params:
        segment=settings(CONFIG.segment, FINISHING),
        code=code("choose_decoder"),
    message:
        "Choosing the decoder"
    script:
        "../../scripts/choose_decoder.py"
