"""A language-model head for a model that has none: trained once for a body, texts and a recipe, and kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from transformers import AutoModel, AutoTokenizer

from attribution.decoding.training import HeadRecipe, save_language_model, train_language_model
from attribution.loading import read_config
from pipeline.keys import digest, source_digest, versions
from pipeline.models.finetune import publish, quiet, shown
from pipeline.models.folder import Location, body_fingerprint

TRAINING = "attribution.decoding.training"
RECIPE = HeadRecipe()


def trained_language_model(
    body: Path, texts: Sequence[str], models_dir: Path, recipe: HeadRecipe | None = None, *, progress: bool = True
) -> Path:
    """The folder of a masked language model on the body of a checkpoint, made on the first call for these texts.

    It loads like any checkpoint (`AutoModelForMaskedLM`); `lm_head.json` in it says how good its head is.
    """
    recipe = recipe or RECIPE
    folder, content = head_folder(body, texts, models_dir, recipe)
    if not folder.is_dir():
        config = read_config(body, local_files_only=True)
        with quiet():
            model = AutoModel.from_pretrained(body, config=config, local_files_only=True, use_safetensors=True)
        tokenizer = AutoTokenizer.from_pretrained(body, local_files_only=True, trust_remote_code=False)
        bar = partial(shown, description="training a language-model head (only once)", progress=progress)
        made, quality = train_language_model(model.float().eval(), tokenizer, texts, recipe, shown=bar)
        publish(folder, lambda where: save_language_model(made, tokenizer, where, quality, **content))
    return folder


def head_folder(
    body: Path, texts: Sequence[str], models_dir: Path, recipe: HeadRecipe | None = None
) -> tuple[Path, dict[str, Any]]:
    """Where such a head is once it is trained, and what decides that."""
    fingerprint = body_fingerprint(Location(body, f"model.path={body}", body.name))
    content = {"body": fingerprint, "texts": digest(list(texts)), "recipe": asdict(recipe or RECIPE)}
    return models_dir / f"lm_head-{digest({**content, 'code': source_digest([TRAINING]), **versions()})[:16]}", content
