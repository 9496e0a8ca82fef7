"""Examples per second of every method on a random bert-base, 128 tokens, the batch size found by trying.

python tests/bench/throughput.py [--device cuda] [--dtype bfloat16] [METHOD ...]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from attribution_cost import bert_base
from transformers import BertConfig, BertForMaskedLM

from attribution import METHODS, Explainer
from attribution.decoding import head_of

N = 128
GAIN = 1.05  # a batch twice as large has to be this much faster to be worth its memory
LARGEST = 1024
ROUNDS = 3
COLUMNS = "| method | examples per second | texts in a pass | peak memory, GiB |\n| --- | --- | --- | --- |"


@dataclass(frozen=True)
class Rate:
    """What a method reached, and with how many texts in a pass."""

    method: str
    per_second: float
    batch: int
    peak_gib: float | None  # of the device; None on a processor

    def __str__(self) -> str:
        peak = "—" if self.peak_gib is None else f"{self.peak_gib:.2f}"
        return f"| `{self.method}` | {self.per_second:.1f} | {self.batch} | {peak} |"


def offered(dtype: torch.dtype) -> list[str]:
    """The methods that are offered in a precision."""
    name = str(dtype).removeprefix("torch.")
    return [id for id, method in METHODS.items() if method.precision.refusal(name) is None]


def rates(methods: Sequence[str], device: torch.device, dtype: torch.dtype) -> Iterator[Rate]:
    """The best rate of each method."""
    head = head_of(BertForMaskedLM(BertConfig()).eval().to(device, dtype), "random")
    explainer = Explainer(bert_base().to(device, dtype), lm_head=head)
    for method in methods:
        yield best_rate(method, lambda size, method=method: _measured(explainer, method, size))  # type: ignore[misc]


def best_rate(method: str, measured: Callable[[int], Rate]) -> Rate:
    """Twice as many texts at a time until that gains nothing or does not fit."""
    best, size = measured(1), 2
    while size <= LARGEST:
        try:
            found = measured(size)
        except torch.OutOfMemoryError:
            break
        if found.per_second < best.per_second * GAIN:
            break
        best, size = found, size * 2
    return best


def _measured(explainer: Explainer, method: str, size: int) -> Rate:
    explainer.max_tokens, device = size * N, explainer.adapter.device
    ids = torch.randint(1000, 20000, (size, N), generator=torch.Generator().manual_seed(1)).to(device)
    mask = {"head_mask": torch.ones(12, 12)} if METHODS[method].needs_heads else {}
    work = lambda: explainer.scores(ids, method=method, target=1, **mask)  # noqa: E731
    work()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    seconds = min(_seconds(work, device) for _ in range(ROUNDS))
    peak = torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else None
    return Rate(method, size / seconds, size, peak)


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="*", metavar="METHOD", help="default: all of them")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    asked = parser.parse_args()
    device, dtype = torch.device(asked.device), getattr(torch, asked.dtype)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"{name}, torch {torch.__version__}, {asked.dtype}, N={N}\n")
    print(COLUMNS)
    for rate in rates(asked.methods or offered(dtype), device, dtype):
        print(rate, flush=True)


if __name__ == "__main__":
    main()
