"""Models: where they come from, what they are, and the embedded default."""

from __future__ import annotations

from pipeline.models.folder import ResolvedModel
from pipeline.models.resolve import load_tokenizer, require_task, resolve_model

__all__ = ["ResolvedModel", "load_tokenizer", "require_task", "resolve_model"]
