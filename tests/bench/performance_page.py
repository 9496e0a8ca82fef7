"""Writes docs/performance.md: what methods cost in plain passes, and on a GPU how many texts a second they explain.

python tests/bench/performance_page.py    20 minutes on a processor; examples per second only where there is CUDA
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

os.environ["OMP_NUM_THREADS"] = "1"  # read when torch is imported

import method_cost
import mixing_cost
import sampling_cost
import torch
from processor import processor
from throughput import COLUMNS, N, offered, rates
from timing import Ratio, verdict

Measured = TypeVar("Measured")

PAGE = Path(__file__).parents[2] / "docs" / "performance.md"
DTYPES = (torch.float32, torch.bfloat16)
HEAD = """# What explaining costs

Written by `make performance` on {machine}, one thread: ratios to plain passes of the same
model, a random bert-base, taken in turns in the same process; the median of the turns with the least and the greatest.
`make bench ARGS="methods mixing sampling"` prints the same.
"""
PASSES = """## Every method, one text

A *forward+backward* goes to the embeddings alone, parameters frozen. Matrix products are counted, not timed: the time
of a cheap method holds what no product shows, reading scores and norms. Methods that need heads are given half of them.
"""
MIXING = """## Token to token

The whole matrix of every layer, against a forward of the same text.
"""
SAMPLING = """## What asks the model again

Against bare calls of the model on the distinct inputs that a method asks for, so that 1 would be no overhead at all.
"""
UNMEASURED = """## On a GPU

Not measured: there was none. With CUDA the command above adds texts per second of every method at 128 tokens, the batch
size found by trying, and `pytest -m gpu` runs the conformance kit in float32 and bfloat16.
"""


def write() -> None:
    """Measure, telling each number as it comes, and write the page."""
    head = HEAD.format(machine=f"{processor()}, torch {torch.__version__}")
    page = "\n".join(
        [head, *_passes(), *_ratios(MIXING, mixing_cost.costs()), *_ratios(SAMPLING, sampling_cost.costs()), *_gpu()]
    )
    PAGE.write_text(page.rstrip() + "\n", "utf-8")
    print(f"wrote {PAGE}")


def _passes() -> Iterator[str]:
    yield PASSES
    yield "| method | matrix products | time | in | limits |\n| --- | --- | --- | --- | --- |"
    products: method_cost.Counted | None = None
    for found in _told(method_cost.costs()):
        if isinstance(found, method_cost.Counted):
            products = found
            continue
        assert products is not None, "products are counted before a method is timed"
        limits = [verdict(products.ratio, products.limit), verdict(found.median, found.limit)]
        told = "; ".join(limit.strip(" ()").removeprefix("limit ") for limit in limits if limit)
        yield f"| `{found.name}` | {products.ratio:.3f} | {_time(found)} | {found.unit} | {told} |"
    yield ""


def _ratios(heading: str, found: Iterable[Ratio]) -> Iterator[str]:
    yield heading
    yield "| what | time | in | limit |\n| --- | --- | --- | --- |"
    for each in _told(found):
        limit = verdict(each.median, each.limit).strip(" ()").removeprefix("limit ")
        yield f"| {each.name.strip()} | {_time(each)} | {each.unit} | {limit} |"
    yield ""


def _time(found: Ratio) -> str:
    return f"{found.median:.2f} [{min(found.ratios):.2f}, {max(found.ratios):.2f}]"


def _gpu() -> Iterator[str]:
    if not torch.cuda.is_available():
        yield UNMEASURED
        return
    yield f"## On a GPU\n\n{torch.cuda.get_device_name()}, texts of {N} tokens, the batch size found by trying.\n"
    for dtype in DTYPES:
        yield f"### {str(dtype).removeprefix('torch.')}\n\n{COLUMNS}"
        yield from map(str, _told(rates(offered(dtype), torch.device("cuda"), dtype)))
        yield ""


def _told(found: Iterable[Measured]) -> Iterator[Measured]:
    for each in found:
        print(each, flush=True)
        yield each


if __name__ == "__main__":
    torch.set_num_threads(1)
    write()
