#!/usr/bin/env bash
# Everything that wants a GPU, in parts of at most eight minutes each, for machines that are lent for minutes.
#
#   benchmarks/gpu.sh [PART ...]     from the repository's root, after `make install` with a CUDA build of PyTorch
#
#   machine     the GPU, the versions
#   tests       the tests that find the GPU by themselves
#   steps       training steps and forward passes of five networks, by number format and compilation
#   inference   from Zarr to Zarr: the paper's network, and one of 16 channels
#   training    share of the time spent waiting for patches, in the workflow
#   isbi        ISBI 2012, the paper's network, trained, scored and verified
#   fib25       fib25, trained and scored
#
# Without a PART all are run, one after the other. A part that is cut off after eight minutes is called again: trainings
# and stores go on from what is there. Every part adds its figures as a line of JSON to results-gpu/figures.jsonl.
# With PYTHON=python3 the programs of that Python's environment are used instead of .venv's. The data lie where the
# files in config/examples say.
set -uo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH" PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
python=${PYTHON:-python}
figures=results-gpu/figures.jsonl
mkdir -p results-gpu
gpus=$($python -c 'import torch; print(torch.cuda.device_count())')
[ "$gpus" -gt 0 ] || { echo "this PyTorch sees no GPU" >&2; exit 1; }

# Run a command for eight minutes at most, and keep its last line, which is JSON.
measured() {
    local part=$1
    shift
    echo "== $part: $*"
    timeout 480 "$@" | tee "results-gpu/$part.log"
    local status=${PIPESTATUS[0]}
    tail -n 1 "results-gpu/$part.log" | $python -c "
import json, sys
line = sys.stdin.read()
try:
    values = json.loads(line)
except ValueError:
    values = None
print(json.dumps({'part': '$part', 'exit': $status, 'seconds': $SECONDS, 'figures': values}))" >> "$figures"
}

# Run an example to its end, or for eight minutes; the next call goes on.
workflow() {
    local part=$1 results=$2
    local run=($python -m snakemake --cores all --resources "gpu=$gpus" --configfile "config/examples/$3.yaml")
    echo "== $part: ${run[*]}"
    timeout 480 "${run[@]}"
    local status=$?
    [ "$status" -eq 0 ] && { "${run[@]}" verify; $python -m json.tool "$results/scores.json"; }
    [ "$status" -eq 124 ] && echo "cut off: call this part again"
    $python -c "
import json, pathlib
scores, curve = (pathlib.Path('$results') / name for name in ('scores.json', 'model/training.jsonl'))
last = json.loads(curve.read_text().splitlines()[-1]) if curve.is_file() else None
values = {'scores': json.loads(scores.read_text()) if scores.is_file() else None, 'training': last}
print(json.dumps({'part': '$part', 'exit': $status, 'seconds': $SECONDS, 'figures': values}))" >> "$figures"
}

part() {
    SECONDS=0
    case $1 in
        machine)
            nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
            $python -c 'import torch; print("torch", torch.__version__, "cudnn", torch.backends.cudnn.version())' ;;
        tests)
            measured tests $python -m pytest -q tests/unit/network tests/unit/training tests/unit/jobs/test_devices.py ;;
        steps)
            measured steps $python benchmarks/gpu_steps.py --seconds 400 ;;
        inference)
            measured inference-64 $python benchmarks/inference.py --base-channels 64 --shape 32 2048 2048 --parts job
            measured inference-16 $python benchmarks/inference.py --base-channels 16 --shape 32 4096 4096 --parts job ;;
        training)
            measured training $python benchmarks/training.py --parts workflow --steps 400 \
                --configfile config/examples/isbi2012-paper.yaml ;;
        isbi)
            workflow isbi results-isbi2012-paper isbi2012-paper ;;
        fib25)
            workflow fib25 results-fib25 fib25 ;;
        *)
            echo "unknown part $1: machine, tests, steps, inference, training, isbi, fib25" >&2
            exit 2 ;;
    esac
}

[ $# -gt 0 ] || set -- machine tests steps inference training isbi fib25
for one in "$@"; do part "$one"; done
echo "== figures"
cat "$figures" 2> /dev/null || true
