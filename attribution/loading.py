"""Loading a model: safetensors only, no code from repositories."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

import attribution.patterns.models  # noqa: F401 (registers the configurations of models with patterns)
from attribution.errors import InputError
from attribution.model.adapter import task_of

LOADERS = {
    "classification": AutoModelForSequenceClassification,
    "question_answering": AutoModelForQuestionAnswering,
    "next_token": AutoModelForCausalLM,
    "masked_token": AutoModelForMaskedLM,
}


def read_config(
    path_or_id: str | Path, *, revision: str | None = None, local_files_only: bool = False
) -> PreTrainedConfig:
    """What a model says of itself, but for the attention code it asks for: `owner/name` there is run from the Hub."""
    config = AutoConfig.from_pretrained(
        path_or_id, revision=revision, trust_remote_code=False, local_files_only=local_files_only
    )
    config._attn_implementation = None
    return config


def load(
    path_or_id: str | Path,
    *,
    revision: str | None = None,
    dtype: torch.dtype | str | None = None,
    device: torch.device | str | None = None,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Model and tokenizer of a folder or hub id, in evaluation mode.

    dtype: default as the checkpoint says; device: default CUDA where there is one, else CPU.
    """
    _refuse_pickles(path_or_id)
    config = read_config(path_or_id, revision=revision)
    architecture = (config.architectures or ["an unnamed class"])[0]
    model = LOADERS[task_of(architecture)].from_pretrained(
        path_or_id,
        revision=revision,
        config=config,
        dtype=dtype or config.dtype or torch.float32,
        use_safetensors=True,
        trust_remote_code=False,
    )
    tokenizer = AutoTokenizer.from_pretrained(path_or_id, revision=revision, trust_remote_code=False)
    where = device or ("cuda" if torch.cuda.is_available() else "cpu")
    return model.to(where).eval(), tokenizer


def load_language_model(
    path_or_id: str | Path, *, causal: bool, revision: str | None = None, local_files_only: bool = False
) -> tuple[PreTrainedModel, list[str]]:
    """The language model of a folder or hub id, masked or causal, and the names of weights that were not there."""
    _refuse_pickles(path_or_id)
    loader = AutoModelForCausalLM if causal else AutoModelForMaskedLM
    model, report = loader.from_pretrained(
        path_or_id,
        revision=revision,
        config=read_config(path_or_id, revision=revision, local_files_only=local_files_only),
        use_safetensors=True,
        trust_remote_code=False,
        local_files_only=local_files_only,
        output_loading_info=True,
    )
    return model, sorted(report["missing_keys"])


def _refuse_pickles(path_or_id: str | Path) -> None:
    folder = Path(path_or_id)
    if folder.is_dir() and not any(folder.glob("*.safetensors")):
        raise InputError(
            f"model.path={folder} holds no safetensors weights; weights in pickle form are not loaded, "
            f"`headlight convert {folder}` makes safetensors of them"
        )
