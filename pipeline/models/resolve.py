"""Where a model comes from: a folder, the Hub, or the embedded default that is fine-tuned here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import huggingface_hub
from huggingface_hub import errors as hub_errors
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from attribution.decoding.head import about_checkpoint, check_fit
from attribution.errors import InputError
from attribution.loading import read_config
from pipeline.config import ModelConfig
from pipeline.data import load_texts
from pipeline.models.folder import (
    TOKENIZER_FILES,
    Location,
    ResolvedHead,
    ResolvedModel,
    body_fingerprint,
    describe,
)
from pipeline.models.lm_head import head_folder, trained_language_model
from pipeline.models.minilm import CORPORA, minilm

TRAIN = "train"  # the value of model.lm_head that has a head trained

DOWNLOADED = ("*.safetensors", "model.safetensors.index.json", "config.json", *TOKENIZER_FILES)


def resolve_model(config: ModelConfig, models_dir: Path, *, progress: bool = True) -> ResolvedModel:
    """The model of a run, on this machine. Raises `InputError` naming the key, the value and what to do."""
    if config.source not in SOURCES:
        raise InputError(f"conf error: model.source={config.source} is not a source; choose {', '.join(SOURCES)}.")
    location = SOURCES[config.source](config, models_dir, progress)
    if config.tune_on:
        from pipeline.models.masked import tuned_on_agreement  # trains what this module finds

        location = tuned_on_agreement(location, config.tune_on, models_dir, progress=progress)
    model = describe(location, config.max_length)
    head = None if config.lm_head is None else resolve_head(config, model, models_dir, progress)
    return replace(model, lm_head=head, shuffled=resolve_shuffled(config, model))


def resolve_shuffled(config: ModelConfig, model: ResolvedModel) -> ResolvedModel | None:
    """The same model trained on shuffled labels. InputError where it reads other tokens, or has other classes."""
    if config.shuffled is None:
        return None
    where, given = f"model.shuffled={config.shuffled}", Path(config.shuffled)
    folder = given if given.is_dir() else download(config.shuffled, None, where)
    other = describe(Location(folder, where, folder.name))
    own, theirs = (read_config(each.folder, local_files_only=True) for each in (model, other))
    for name in ("model_type", "vocab_size", "num_labels"):
        if getattr(own, name) != getattr(theirs, name):
            raise InputError(
                f"conf error: {where} has {name}={getattr(theirs, name)}, but the model explained has "
                f"{name}={getattr(own, name)}; give the same model, trained on shuffled labels."
            )
    return other


def resolve_head(config: ModelConfig, model: ResolvedModel, models_dir: Path, progress: bool = True) -> ResolvedHead:
    """The checkpoint that hidden states are decoded with, trained first where that is asked for."""
    assert config.lm_head is not None
    where = f"model.lm_head={config.lm_head}"
    if config.lm_head == TRAIN:
        texts = _texts(config.lm_head_texts)
        folder = trained_language_model(model.folder, texts, models_dir, progress=progress)
    else:
        given = Path(config.lm_head)
        folder = given if given.is_dir() else download(config.lm_head, None, where)
    fingerprint = body_fingerprint(Location(folder, where, folder.name))
    check_fit(
        read_config(folder, local_files_only=True), read_config(model.folder, local_files_only=True), config.lm_head
    )
    return ResolvedHead(folder, fingerprint, about_checkpoint(folder, config.lm_head))


def untrained_head(config: ModelConfig, models_dir: Path) -> int | None:
    """On how many texts a head is to be trained first; None where there is none to be trained."""
    if config.lm_head != TRAIN:
        return None
    texts = _texts(config.lm_head_texts)
    model = resolve_model(replace(config, lm_head=None), models_dir, progress=False)
    folder, _ = head_folder(model.folder, texts, models_dir)
    return None if folder.is_dir() else len(texts)


def _texts(path: str | None) -> list[str]:
    """The texts of a file, each once, whatever else is in it."""
    if not path:
        raise InputError("conf error: model.lm_head=train needs model.lm_head_texts=FILE, texts to train a head on.")
    examples = load_texts(path, "model.lm_head_texts").examples
    return list(dict.fromkeys(text for example in examples for text in (example.text, example.text_b) if text))


def load_tokenizer(model: ResolvedModel) -> PreTrainedTokenizerBase:
    """The model's tokenizer."""
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            model.folder, trust_remote_code=False, local_files_only=True
        )
    except (OSError, ValueError, TypeError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"conf error: model {model.name}: {model.folder} has no usable tokenizer ({reason}); save it there with "
            f"tokenizer.save_pretrained."
        ) from error
    return tokenizer


def require_task(model: ResolvedModel, task: str, dataset: str) -> None:
    """Stop where the data set asks for something else than the model does."""
    if model.task != task:
        raise InputError(
            f"conf error: dataset {dataset} is for {task}, but model {model.name} ({model.architecture}) does "
            f"{model.task}; choose another model, or set dataset.columns to what the texts are."
        )


def _local(config: ModelConfig, models_dir: Path, progress: bool) -> Location:
    if not config.path:
        raise InputError("conf error: model=local needs model.path=<folder of a Hugging Face model>.")
    folder = Path(config.path)
    if not folder.is_dir():
        raise InputError(f"conf error: model.path={config.path} is not a folder.")
    return Location(folder, f"model.path={config.path}", config.name or folder.resolve().name)


def _hub(config: ModelConfig, models_dir: Path, progress: bool) -> Location:
    if not config.id:
        raise InputError("conf error: model=hub needs model.id=<owner/name>.")
    where = f"model.id={config.id}" + (f" model.revision={config.revision}" if config.revision else "")
    folder = download(config.id, config.revision, where)
    return Location(folder, where, config.name or config.id.rsplit("/", 1)[-1], config.id, folder.name)


def download(repository: str, revision: str | None, where: str, patterns: Sequence[str] = DOWNLOADED) -> Path:
    """The snapshot's folder, named after its commit. Only weights in safetensors, config and tokenizer are fetched."""
    try:
        # Patterns match across folders, so what lies in subfolders (other formats) has to be left out on its own.
        folder = huggingface_hub.snapshot_download(
            repository, revision=revision, allow_patterns=list(patterns), ignore_patterns=["*/*"]
        )
    except (hub_errors.HfHubHTTPError, hub_errors.HFValidationError, OSError) as error:
        raise InputError(f"conf error: {where}: {_advice(error, repository)}") from error
    return Path(folder)


def _advice(error: Exception, repository: str) -> str:
    line = " ".join(str(error).split())[:200]
    return next((text for kind, text in ADVICE if isinstance(error, kind)), line).format(
        repository=repository, line=line
    )


ADVICE: list[tuple[type[Exception], str]] = [  # the first that fits
    (
        hub_errors.GatedRepoError,
        "the repository is gated; ask for access at https://huggingface.co/{repository}, then log in with "
        "`hf auth login` or set HF_TOKEN.",
    ),
    (
        hub_errors.RepositoryNotFoundError,
        "no such repository, or a private one; check the spelling, or log in with `hf auth login`.",
    ),
    (hub_errors.RevisionNotFoundError, "this revision does not exist; model.revision takes a commit, tag or branch."),
    (
        hub_errors.LocalEntryNotFoundError,
        "not in the local cache, and the Hub cannot be reached; get it with `headlight fetch` where it can, or use "
        "model=local.",
    ),
    (hub_errors.HFValidationError, "this is not a repository id: {line}"),
]


def _minilm(config: ModelConfig, models_dir: Path, progress: bool) -> Location:
    source = config.source
    folder = minilm(source, models_dir, progress=progress)
    return Location(folder, f"model={source}", config.name or source, revision=folder.name.rsplit("-")[-1])


def _minilm_masked(config: ModelConfig, models_dir: Path, progress: bool) -> Location:
    from pipeline.models.masked import minilm_masked  # knows how data are read

    folder = minilm_masked(config, models_dir, progress=progress)
    name = config.name or "minilm_masked"
    return Location(folder, "model=minilm_masked", name, revision=folder.name.rsplit("-")[-1])


SOURCES: dict[str, Callable[[ModelConfig, Path, bool], Location]] = {
    "local": _local,
    "hub": _hub,
    **dict.fromkeys(CORPORA, _minilm),
    "minilm_masked": _minilm_masked,
}
