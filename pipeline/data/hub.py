"""Data sets of the Hugging Face Hub, through the `datasets` library: pinned revision, offline cache, no code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from attribution.errors import InputError
from pipeline.config import DatasetConfig
from pipeline.data.cells import Content, Source, read_examples

COMMIT = re.compile(r"[0-9a-f]{40}")
PREFERRED_SPLITS = ("validation", "validation_matched", "dev", "test", "train")


def load_hub(config: DatasetConfig) -> Content:
    """The examples of `dataset.id`, one split of it."""
    if not config.id:
        raise InputError("conf error: dataset=hub needs dataset.id=<owner/name>.")
    where = _where(config)
    split, note = _one_split(_download(config, where), config, where)
    _require_revision(split, config, where)
    if not len(split):
        raise InputError(f"conf error: {where} has no rows.")
    names = {name: feature.names for name, feature in split.features.items() if hasattr(feature, "names")}
    source = Source(_name(config), where, split.column_names, lambda column: split[column][:], names)
    content = read_examples(source, config)
    content.notes.extend(note)
    return content


def cached(config: DatasetConfig) -> tuple[Path, int, str]:
    """Where the library keeps what `load_hub` has loaded: folder, bytes, commit."""
    where = _where(config)
    split, _ = _one_split(_download(config, where), config, where)
    files = _files(split)
    return files[0].parent, sum(file.stat().st_size for file in files), files[0].parent.name


def _files(split: Any) -> list[Path]:
    """Its files in the library's cache, in a folder named after the commit."""
    return [Path(file["filename"]) for file in split.cache_files]


def _require_revision(split: Any, config: DatasetConfig, where: str) -> None:
    """Without network the library takes the latest data set in its cache, whatever revision was asked for."""
    commits = {file.parent.name for file in _files(split) if COMMIT.fullmatch(file.parent.name)}
    if COMMIT.fullmatch(config.revision or "") and commits - {config.revision}:
        raise InputError(
            f"conf error: {where} is not in the local cache, which has {', '.join(sorted(commits))}; get it with "
            "`headlight fetch` where the Hub can be reached."
        )


def _where(config: DatasetConfig) -> str:
    parts = {"id": config.id, "subset": config.subset, "revision": config.revision, "split": config.split}
    return " ".join(f"dataset.{key}={value}" for key, value in parts.items() if value)


def _name(config: DatasetConfig) -> str:
    return config.subset or str(config.id).rsplit("/", 1)[-1]


def _download(config: DatasetConfig, where: str) -> Any:
    """What `datasets.load_dataset` gives; its errors as one line that says what to do."""
    import datasets  # slow to import, and only needed here

    try:
        return datasets.load_dataset(config.id, config.subset, split=config.split, revision=config.revision)
    except datasets.exceptions.DatasetNotFoundError as error:
        raise InputError(f"conf error: {where}: {_not_found(str(error), config)}") from error
    except ConnectionError as error:
        raise InputError(
            f"conf error: {where} is not in the local cache and the Hub cannot be reached ({_line(error)}); "
            f"get it with `headlight fetch` where it can, or use dataset=local."
        ) from error
    except (ValueError, RuntimeError, OSError, datasets.exceptions.DatasetsError) as error:
        raise InputError(f"conf error: {where}: {_line(error)}{_advice(str(error))}") from error


def _not_found(message: str, config: DatasetConfig) -> str:
    if "gated" in message:
        return (
            f"the repository is gated; ask for access at https://huggingface.co/datasets/{config.id}, "
            f"then log in with `hf auth login` or set HF_TOKEN."
        )
    if "Revision" in message:
        return "this revision does not exist; dataset.revision takes a commit, tag or branch."
    return "no such repository, or a private one; check the spelling, or log in with `hf auth login`."


def _advice(message: str) -> str:
    """What to do about errors of which only the message tells the cause."""
    if "scripts are no longer supported" in message:
        return "; its code is never run: try dataset.revision=refs/convert/parquet."
    return ""


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def _one_split(loaded: Any, config: DatasetConfig, where: str) -> tuple[Any, list[str]]:
    """The split asked for, or the first usual one, with a note."""
    if config.split is not None:
        return loaded, []
    chosen = next((name for name in PREFERRED_SPLITS if name in loaded), None)
    if chosen is None:
        raise InputError(f"conf error: {where} needs dataset.split, one of {', '.join(loaded)}.")
    return loaded[chosen], [f"split guessed: dataset.split={chosen} of {', '.join(loaded)}"]
