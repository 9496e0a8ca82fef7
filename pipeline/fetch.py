"""Bringing what a configuration needs to this machine, once, for machines that reach no Hub."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.config import Config, DatasetConfig, ModelConfig
from pipeline.data import load_dataset
from pipeline.data.hub import cached
from pipeline.models import ResolvedModel, load_tokenizer, resolve_model

REVIEWS = Path(__file__).with_name("data") / "reviews.jsonl"  # embedded


@dataclass(frozen=True)
class Fetched:
    """Something that is on this machine now. `revision` is a commit of the Hub; None for what is not from there."""

    what: str  # model, tokenizer, dataset
    name: str
    folder: Path
    size: int  # bytes
    revision: str | None = None


def fetch(config: Config) -> Iterator[Fetched]:
    """Find or download model, tokenizer and data. Raises `InputError` naming the key, the value and what to do."""
    model = resolve_model(config.model, Path(config.paths.models))
    yield from _model(config.model, model)
    yield _data(config.dataset)


def _model(config: ModelConfig, model: ResolvedModel) -> Iterator[Fetched]:
    load_tokenizer(model)
    revision = model.revision if config.source == "hub" else None
    yield Fetched("model", config.id or model.name, model.folder, _size(model.folder), revision)
    yield Fetched("tokenizer", config.id or model.name, model.folder, 0, revision)


def _data(config: DatasetConfig) -> Fetched:
    name = load_dataset(config).name
    if config.source == "hub":
        return Fetched("dataset", config.id or name, *cached(config))
    path = Path(config.path) if config.source == "local" and config.path else REVIEWS
    return Fetched("dataset", name, path, path.stat().st_size)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
