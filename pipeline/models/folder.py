"""What a model folder holds: read from its config and headers, without loading it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoModelForMaskedLM, AutoModelForQuestionAnswering, AutoModelForSequenceClassification

from attribution.errors import InputError
from attribution.loading import read_config
from attribution.model.adapter import task_of
from attribution.model.families import family_of
from pipeline.keys import digest

INDEX = "model.safetensors.index.json"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.h5", "*.msgpack")
CONFIG_FILES = ("config.json", INDEX)
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "*.model",
)
AUTO_CLASSES = {
    "classification": AutoModelForSequenceClassification,
    "question_answering": AutoModelForQuestionAnswering,
    "masked_token": AutoModelForMaskedLM,
}


@dataclass(frozen=True)
class Location:
    """A folder and where it came from. `where` names the configuration key and its value, for errors."""

    folder: Path
    where: str
    name: str
    id: str | None = None
    revision: str | None = None


@dataclass(frozen=True)
class ResolvedHead:
    """A checkpoint whose language-model head decodes hidden states; `about` says in words what it is."""

    folder: Path
    fingerprint: str
    about: str


@dataclass(frozen=True)
class ResolvedModel:
    """A model that is on this machine and can be explained."""

    folder: Path
    id: str | None
    revision: str | None
    name: str
    fingerprint: str  # of weights, config and tokenizer
    labels: dict[int, str]  # class index -> name; empty where the model has no classes
    task: str  # classification, question_answering, masked_token
    max_length: int  # tokens, specials counted
    architecture: str
    n_layers: int
    n_heads: int
    lm_head: ResolvedHead | None = None
    shuffled: ResolvedModel | None = None  # the same model trained on shuffled labels


def describe(location: Location, max_length: int | None = None) -> ResolvedModel:
    """The model in a folder. Raises `InputError` where it cannot be explained, and says why."""
    weights = _weight_files(location)
    _require_tokenizer(location)
    config = _config(location)
    architecture = (config.architectures or ["its architecture, which config.json does not name,"])[0]
    task = _task(architecture, config, location)
    _require_head(weights, task, config, location)
    return ResolvedModel(
        folder=location.folder,
        id=location.id,
        revision=location.revision,
        name=location.name,
        fingerprint=fingerprint(location.folder, weights),
        labels={int(index): str(name) for index, name in config.id2label.items()} if task == "classification" else {},
        task=task,
        max_length=_max_length(location, config, max_length),
        architecture=architecture,
        n_layers=config.num_hidden_layers,
        n_heads=config.num_attention_heads,
    )


def body_fingerprint(location: Location) -> str:
    """Fingerprint of a checkpoint of any kind. Raises `InputError` where it has no weights in safetensors."""
    return fingerprint(location.folder, _weight_files(location))


def fingerprint(folder: Path, weights: list[Path]) -> str:
    """Digest of the contents of weights, config and tokenizer."""
    others = {path for pattern in (*CONFIG_FILES, *TOKENIZER_FILES) for path in folder.glob(pattern)}
    return digest({path.name: sha256(path) for path in {*weights, *others}})


def sha256(path: Path) -> str:
    """Hex SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _weight_files(location: Location) -> list[Path]:
    """The safetensors files, one or as the index says."""
    single, index = location.folder / "model.safetensors", location.folder / INDEX
    if single.is_file():
        return [single]
    if index.is_file():
        names = sorted(set(_json(index, location)["weight_map"].values()))
        missing = [name for name in names if "/" in name or not (location.folder / name).is_file()]
        if missing:
            raise InputError(f"conf error: {location.where}: {INDEX} names {missing[0]}, which is not in the folder.")
        return [location.folder / name for name in names]
    raise InputError(_no_weights(location))


def _no_weights(location: Location) -> str:
    pickles = sorted(path.name for pattern in PICKLES for path in location.folder.glob(pattern))
    if not pickles and location.id is None:
        return f"conf error: {location.where} has no model.safetensors; save it with model.save_pretrained(<folder>)."
    found = (
        f"holds weights only as {', '.join(pickles)}, which" if pickles else "has no model.safetensors; other formats"
    )
    return (
        f"conf error: {location.where} {found} can run code when loaded and are never opened; "
        f"`headlight convert {location.id or location.folder}` makes safetensors of pytorch_model.bin, running nothing."
    )


def _require_tokenizer(location: Location) -> None:
    """Without its files the library would make up a tokenizer to which every word is unknown."""
    names = {path.name for pattern in TOKENIZER_FILES for path in location.folder.glob(pattern)}
    if names <= {"tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"}:
        raise InputError(
            f"conf error: {location.where} has no tokenizer (tokenizer.json or a vocabulary); save it there with "
            f"tokenizer.save_pretrained(<folder>)."
        )


def _json(path: Path, location: Location) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"conf error: {location.where}: {path.name} is not readable JSON: {error}.") from error
    return content


def _config(location: Location) -> Any:
    if not (location.folder / "config.json").is_file():
        raise InputError(f"conf error: {location.where} has no config.json; give the folder of a Hugging Face model.")
    declared = _json(location.folder / "config.json", location)
    try:
        family_of(str(declared.get("model_type")))
        return read_config(location.folder, local_files_only=True)
    except InputError as error:
        raise InputError(f"conf error: {location.where}: {error}") from error
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise InputError(f"conf error: {location.where}: config.json is not usable: {_line(error)}") from error


def _task(architecture: str, config: Any, location: Location) -> str:
    try:
        task = task_of(architecture)
    except InputError as error:
        raise InputError(f"conf error: {location.where}: {error}") from error
    if task not in AUTO_CLASSES:
        raise InputError(
            f"conf error: {location.where} is a {architecture}: runs explain {' and '.join(AUTO_CLASSES)}; "
            "attribution.Explainer explains next tokens."
        )
    if task == "classification" and config.num_labels < 2:
        raise InputError(
            f"conf error: {location.where} is a regression model (one output); a classifier has two or more."
        )
    return task


def _require_head(weights: list[Path], task: str, config: Any, location: Location) -> None:
    """A head that is not in the files would be made up at random by the loader."""
    with torch.device("meta"):
        model = AUTO_CLASSES[task].from_config(config, trust_remote_code=False)
    base = model.base_model_prefix + "."
    head = {name for name, _ in model.named_parameters() if not name.startswith(base)}
    missing = sorted(head - _tensor_names(weights, location))
    if missing:
        raise InputError(
            f"conf error: {location.where} has no weights for {missing[0]}; it is a base model, not one fine-tuned for "
            f"{task}."
        )


def _tensor_names(weights: list[Path], location: Location) -> set[str]:
    names: set[str] = set()
    for path in weights:
        try:
            with safe_open(path, framework="pt") as tensors:
                names |= set(tensors.keys())
        except (SafetensorError, OSError) as error:
            raise InputError(f"conf error: {location.where}: {path.name} is damaged: {_line(error)}") from error
    return names


def _max_length(location: Location, config: Any, wanted: int | None) -> int:
    """Tokens the model has positions for and its tokenizer was made for; `model.max_length` may only lower it."""
    positions = int(config.max_position_embeddings)
    if family_of(config.model_type).positions_after_padding:
        positions -= config.pad_token_id + 1
    tokenizer = location.folder / "tokenizer_config.json"
    limit = _json(tokenizer, location).get("model_max_length") if tokenizer.is_file() else None
    longest = min(positions, int(limit or positions))
    if wanted is not None and not 3 <= wanted <= longest:
        raise InputError(f"conf error: model.max_length={wanted} must be from 3 to {longest}, which the model takes.")
    return wanted or longest


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
