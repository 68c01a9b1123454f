#!/usr/bin/env bash
# Everything that wants a GPU, in one command: the paper's full network trained on ISBI 2012 and scored, how busy training
# and inference keep the device, out of memory and back, two jobs that share a machine's GPUs. Not measured yet.
#
#   benchmarks/gpu.sh [MINUTES]      from the repository's root, after `make install` with a CUDA build of PyTorch
#
# MINUTES (25 by default) bound the training and what belongs to it. The data lie where config/examples/isbi2012-paper.yaml
# says. With PYTHON=python3 the programs of that Python's environment are used instead of .venv's.
set -euo pipefail
cd "$(dirname "$0")/.."
minutes=${1:-25}
export PATH="$PWD/.venv/bin:$PATH" PYTHONPATH="$PWD"
python=${PYTHON:-python}
gpus=$($python -c 'import torch; print(torch.cuda.device_count())')
[ "$gpus" -gt 0 ] || { echo "this PyTorch sees no GPU" >&2; exit 1; }

echo "== the machine"
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
$python -c 'import torch; print("torch", torch.__version__, "cudnn", torch.backends.cudnn.version())'

echo "== ISBI 2012, the paper's network: sections 21-23, trained on 0-20 (aim: V_rand 0.97, V_info 0.985 in 25 minutes)"
run=($python -m snakemake --cores all --resources "gpu=$gpus" --configfile config/examples/isbi2012-paper.yaml)
"${run[@]}" plan
begin=$SECONDS
timeout "${minutes}m" "${run[@]}"
echo "took $((SECONDS - begin)) s"
"${run[@]}" verify
$python -m json.tool results-isbi2012-paper/scores.json
tail -n 1 results-isbi2012-paper/model/training.jsonl

echo "== training: share of the time spent waiting for patches, and of the matrix-product rate"
$python benchmarks/training.py --configfile config/examples/isbi2012-paper.yaml --steps 400

echo "== inference from Zarr to Zarr (aims: 100 Mvoxel/s on an H200, half of the bf16 matrix rate, busy 0.9)"
$python benchmarks/inference.py --base-channels 64 --shape 32 4096 4096 --parts job
$python benchmarks/inference.py --base-channels 16 --shape 32 4096 4096 --parts job

echo "== tests that find the GPU by themselves"
$python -m pytest -q tests/unit/network/test_engine.py tests/unit/network/test_predictor.py tests/unit/jobs/test_devices.py
