"""Times of a run's jobs, from Snakemake's samples and from what the jobs counted themselves."""

import json
from pathlib import Path

import pytest

from unet.run.plan.estimates import measured_jobs

SAMPLED = "s\tmax_rss\tcpu_time\n40.5\t{memory}\t15.0\n"


@pytest.mark.parametrize(
    ("memory", "used", "most", "seconds"),
    [
        ("700.0", {"processor_seconds": 62.5, "peak_mb": 900.0}, 900.0, 62.5),  # a peak between two samples
        ("700.0", {"processor_seconds": 3.0, "peak_mb": 400.0}, 700.0, 15.0),  # most of it in processes of the job
        ("NA", None, 0.0, 15.0),  # shorter than a sample; of a version that counted nothing
    ],
)
def test_of_both_counts_the_larger(
    tmp_path: Path, memory: str, used: dict[str, float] | None, most: float, seconds: float
) -> None:
    sampled, log = tmp_path / "benchmarks/predict/train/0-of-1.tsv", tmp_path / "logs/predict/train/0-of-1.usage"
    for path in (sampled, log):
        path.parent.mkdir(parents=True)
    sampled.write_text(SAMPLED.format(memory=memory))
    if used:
        log.write_text(json.dumps(used))
    [job] = measured_jobs(tmp_path)
    assert (job["rule"], float(job["s"]), job["max_rss"], job["cpu_time"]) == ("predict", 40.5, most, seconds)
