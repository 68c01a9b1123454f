"""Ablation: an example with one thing changed at a time, each trained for the same number of steps.

    python benchmarks/ablation.py --cores 2                     # all variants on ISBI 2012, then the table
    python benchmarks/ablation.py --only base fcn8s --seeds 0 1  # some of them
    python benchmarks/ablation.py --table                       # of the runs that are there already
    python benchmarks/ablation.py --example fib25-2d --only w0-0 w0-10 --seeds 0 1 2  # effect of the weight map

Every variant is a run of the workflow itself in a folder of its own, resumable like any other. The threshold is chosen
on the training volume, unless one is given: then the trained models are segmented and scored again with it. The scores
are of the validation volume. Times are comparable only between runs made alone on one machine.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import starter
from starter import ROOT

VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "base": {},
    "fcn8s": {"model": {"architecture": "fcn8s"}},
    "same": {"model": {"convolution": "same"}, "train": {"tile": 384}},
    "bilinear": {"model": {"upsampling": "bilinear"}},
    "add": {"model": {"skip": "add"}},
    "no-batch-norm": {"model": {"normalisation": "none"}},
    "dropout": {"model": {"dropout": 0.5}},
    "w0-0": {"weights": {"w0": 0}},
    "class-balance": {"weights": {"class_balance": True}},
    "w0-10": {"weights": {"w0": 10}},
    "elastic": {"augment": {"elastic_probability": 1}},
    "any-angle": {"augment": {"rotation": "any"}},
    "sgd": {"train": {"optimizer": "sgd", "learning_rate": 0.01}},
}
"""What differs from the example, by section of the configuration; `augment` stands for `train.augment`."""


def base(example: str | None) -> dict[str, Any]:
    """Return the configuration of an example; of a miniature where none is named."""
    return starter.example(ROOT / "config" / "examples" / f"{example}.yaml") if example else starter.miniature()


def configuration(
    config: dict[str, Any], variant: str, seed: int, steps: int, threshold: float | str
) -> dict[str, Any]:
    """Return a configuration with the variant's changes."""
    changes = {section: dict(values) for section, values in VARIANTS[variant].items()}
    config["train"]["augment"] |= changes.pop("augment", {})
    for section, values in changes.items():
        config[section] = config.get(section, {}) | values
    config["train"] |= {"steps": steps, "seed": seed}
    config["segment"] = {"threshold": threshold}  # components per section, whatever the example does
    return config


def row(folder: Path) -> str:
    """Return one line of the table: scores of the validation sections and the time of the training."""
    scores, measured = starter.scores(folder, "validation"), folder / "results" / "benchmarks" / "train" / "model.tsv"
    seconds = float(measured.read_text().splitlines()[1].split("\t")[0])
    names = ("v_rand", "v_info", "fine_v_rand", "pixel_error", "adapted_rand_error")
    figures = " | ".join(f"{scores[name]:.4f}" for name in names)
    errors = f"{scores['merge_errors']} | {scores['split_errors']}"
    return f"| {folder.name} | {figures} | {errors} | {scores['threshold']:.2f} | {seconds / 60:.1f} |"


def main() -> None:
    """Run the variants that are asked for, one after the other, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--example", default="isbi2012", help="a file of config/examples, without .yaml")
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--steps", type=int, default=900)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--threshold", type=float, help="instead of the one that the training volume chooses")
    parser.add_argument("--folder", type=Path, help="default: results-ablation-EXAMPLE")
    parser.add_argument("--table", action="store_true", help="run nothing")
    parser.add_argument("--smoke", action="store_true", help="of a miniature, to see that it runs")
    arguments = parser.parse_args()
    folder = arguments.folder or ROOT / f"results-ablation-{arguments.example}"
    threshold = arguments.threshold or "auto"
    runs = {folder / f"{name}-{seed}": (name, seed) for seed in arguments.seeds for name in arguments.only}
    for own, (name, seed) in runs.items():
        if not arguments.table:
            print(f"{own.name} ...", file=sys.stderr, flush=True)
            example = base(None if arguments.smoke else arguments.example)
            starter.configure(own, configuration(example, name, seed, arguments.steps, threshold), anew=False)
            starter.run(own, "--cores", str(arguments.cores), "--resources", "gpu=1")
    columns = ["variant-seed", "V_rand", "V_info", "best V_rand", "pixel error", "adapted Rand", "merges", "splits"]
    columns += ["threshold", "training (min)"]
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for own in runs:
        if (own / "results" / "report.html").exists():
            print(row(own))


if __name__ == "__main__":
    main()
