"""What the executors add to the work itself, on a run of more than a minute with a random model of MiniLM's size."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import torch
from timing import Ratio
from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

from pipeline.config import ClusterConfig
from pipeline.execution import Executor, Outcome, Task, check_cluster, create_executor, in_order
from pipeline.schemas import EXAMPLES
from pipeline.stages import attribute
from pipeline.store import Store
from pipeline.worker import ModelRef, Shard, StageWorker, WorkerSettings

METHODS = ("mask_lrp", "transformer_attribution", "gradcam", "attcat")
TASKS, ROWS, LENGTH = 12, 8, 64
ROUNDS = 8  # turns of each side; together each takes more than a minute


def costs() -> Iterator[Ratio]:
    """Local and Ray executors against a plain loop over the same tasks."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        model = saved_model(root / "model")
        write_examples(Store(root / "store"))
        settings = WorkerSettings(str(root / "store"))
        worker = StageWorker(settings)
        local = ClusterConfig(executor="local", threads=1)
        ray = ClusterConfig(executor="ray", workers=1, threads=1)
        for name, config, limit in (("local executor", local, 1.03), ("one ray worker", ray, 1.10)):
            with create_executor(settings, check_cluster(config)) as executor:
                yield _against_loop(name, executor, worker, model, limit)


def _against_loop(name: str, executor: Executor, worker: StageWorker, model: ModelRef, limit: float) -> Ratio:
    executor.run(in_order(tasks_of(model, f"{name} warm-up", 2)), must_succeed)
    loop(worker, tasks_of(model, f"{name} warm-up of the loop", 2))
    pairs = []
    for turn in range(ROUNDS):
        through = timed(lambda t=turn: executor.run(in_order(tasks_of(model, f"{name} {t}")), must_succeed))  # type: ignore[misc]
        plain = timed(lambda t=turn: loop(worker, tasks_of(model, f"{name} loop {t}")))  # type: ignore[misc]
        pairs.append((through, plain))
    total = sum(plain for _, plain in pairs)
    return Ratio(name, f"plain loop, {total:.0f} s in all", limit, [a / b for a, b in pairs], total / ROUNDS)


def must_succeed(outcome: Outcome) -> None:
    """RuntimeError where a task failed."""
    if not outcome.ok:
        raise RuntimeError(outcome.traceback)


def loop(worker: StageWorker, tasks: Sequence[Task]) -> None:
    """The work without an executor."""
    for task in tasks:
        worker.process(task)


def tasks_of(model: ModelRef, run: str, n: int = TASKS) -> list[Task]:
    """Tasks whose keys nobody has used, so that all of them are computed and written."""
    tasks = []
    for i in range(n):
        methods = {_key(run, i, name): {"method": name} for name in METHODS}
        payload = {
            "methods": methods,
            "targets": (1,) * ROWS,
            "output": "logit",
            "hide_separators": False,
            "shard": Shard(model, "e" * 64, tuple(range(i * ROWS, (i + 1) * ROWS)), LENGTH, segment_ids=True),
        }
        items = tuple(f"item-{row}" for row in range(i * ROWS, (i + 1) * ROWS))
        tasks.append(Task(_key(run, i, "task"), attribute.STAGE, payload, model.fingerprint, items=items))
    return tasks


def _key(run: str, i: int, name: str) -> str:
    from pipeline.keys import digest

    return digest([run, i, name])


def saved_model(folder: Path) -> ModelRef:
    """A random model of MiniLM's size."""
    torch.manual_seed(0)
    size = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
    BertForSequenceClassification(BertConfig(vocab_size=1000, **size)).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *map(str, range(995))]))
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    return ModelRef(str(folder), "bench", "float32", "cpu")


def write_examples(store: Store) -> None:
    """The examples that the tasks name."""
    generator = torch.Generator().manual_seed(3)
    n = TASKS * ROWS
    ids = torch.randint(5, 1000, (n, LENGTH), generator=generator).tolist()
    columns = {field.name: [None] * n for field in EXAMPLES}
    columns |= {
        "item_id": [str(i) for i in range(n)],
        "input_ids": ids,
        "token_type_ids": [[0] * LENGTH] * n,
        "special_tokens": [[False] * LENGTH] * n,
    }
    store.put("e" * 64, pa.table(columns, schema=EXAMPLES), "examples")


def timed(work: Callable[[], object]) -> float:
    """Seconds it takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
