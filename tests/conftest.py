"""Tiny seeded models shared by all tests; nothing is downloaded."""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny models; the tests run on several cores side by side

import pytest
from tiny_models import TINY_MODELS, tiny_model
from transformers import PreTrainedModel


@pytest.fixture(params=list(TINY_MODELS))
def any_model(request: pytest.FixtureRequest) -> PreTrainedModel:
    """Each tiny model in turn, in float64."""
    return tiny_model(request.param)


@pytest.fixture
def bert() -> PreTrainedModel:
    """A tiny BERT classifier in float64."""
    return tiny_model("bert")


@pytest.fixture
def bert_qa() -> PreTrainedModel:
    """A tiny BERT span model in float64."""
    return tiny_model("bert_qa")
