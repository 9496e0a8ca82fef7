from __future__ import annotations

import pytest
import torch
from transformers import BertTokenizerFast

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "The", "cat", "cats", "saw", "##s", ".", "!", ",", '"',
         ")", "3", "5", "a", "dog"]  # fmt: skip


@pytest.fixture
def tokenizer(tmp_path):
    """A cased word-piece tokenizer of twenty tokens."""
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(WORDS))
    return BertTokenizerFast(str(path), do_lower_case=False)


@pytest.fixture
def texts():
    """Rows of different length, padded on the right: ids [3, 12] with repeated tokens, and the mask."""
    ids = torch.randint(5, 14, (3, 12), generator=torch.Generator().manual_seed(3))
    mask = (torch.arange(12) < torch.tensor([[12], [7], [4]])).long()
    return {"input_ids": ids * mask, "attention_mask": mask}
