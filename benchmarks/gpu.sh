#!/usr/bin/env bash
# The paper's full network on ISBI 2012, on a GPU: trains, predicts, verifies, and prints scores, times and speeds.
# From the repository's root, after `make install`, with the data where config/examples/isbi2012-paper.yaml says.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH"
run=(snakemake --cores all --resources gpu=1 --configfile config/examples/isbi2012-paper.yaml)

nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
python -c 'import torch; assert torch.cuda.is_available(), "this PyTorch sees no GPU"; print("torch", torch.__version__)'
"${run[@]}" plan
"${run[@]}"
"${run[@]}" verify
python -m json.tool results-isbi2012-paper/scores.json
tail -n 1 results-isbi2012-paper/model/training.jsonl
grep -h voxels/s results-isbi2012-paper/logs/predict/*/*.log | tail -n 4
