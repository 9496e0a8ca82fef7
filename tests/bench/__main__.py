"""`make bench`: cost ratios on one thread, each against something measured in the same process, turn by turn; and what
a sweep does once for all its runs.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # read when torch is imported, here and in workers
sys.path.insert(1, str(Path(__file__).resolve().parents[1]))
sys.path.insert(1, str(Path(__file__).resolve().parents[2]))  # before the tests, whose folders have the packages' names

import attribution_cost
import evaluation_cost
import executor_cost
import listing_cost
import method_cost
import mixing_cost
import sampling_cost
import scaling_cost
import statistics_cost
import sweep_sharing
import torch

PARTS = {
    "attribution": attribution_cost.costs,
    "methods": method_cost.costs,
    "executors": executor_cost.costs,
    "scaling": scaling_cost.costs,
    "listing": listing_cost.costs,
    "sweep": sweep_sharing.counts,
    "mixing": mixing_cost.costs,
    "statistics": statistics_cost.costs,
    "sampling": sampling_cost.costs,
    "evaluation": evaluation_cost.costs,
}


def main(names: list[str]) -> None:
    """Print the ratios of these parts, or of all."""
    if unknown := set(names) - set(PARTS):
        raise SystemExit(f"no such part: {', '.join(sorted(unknown))}; choices: {', '.join(PARTS)}")
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, one thread; median [least, greatest] of paired turns")
    for name in names or PARTS:
        for measured in PARTS[name]():
            print(measured, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
