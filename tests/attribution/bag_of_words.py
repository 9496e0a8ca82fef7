"""A classifier that is linear in its word embeddings: what each token gives is known in closed form."""

from __future__ import annotations

import torch
from torch import nn
from transformers import BertConfig
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.models.bert.modeling_bert import BertPreTrainedModel

PAD, CLS, SEP, MASK = 0, 2, 3, 4


class Body(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.embeddings = nn.Module()
        self.embeddings.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.encoder = nn.Module()
        self.encoder.layer = nn.ModuleList()


class BagForSequenceClassification(BertPreTrainedModel):
    """logits = W times the sum of the attended word embeddings, plus a bias."""

    def __init__(self, config):
        super().__init__(config)
        self.bert = Body(config)
        self.head = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def get_input_embeddings(self):
        return self.bert.embeddings.word_embeddings

    def forward(self, input_ids, attention_mask, **_):
        words = self.get_input_embeddings()(input_ids)
        return SequenceClassifierOutput(logits=self.head((words * attention_mask[..., None]).sum(1)))


def bag_of_words(vocab_size: int = 40) -> BagForSequenceClassification:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=vocab_size, hidden_size=6, num_hidden_layers=0, num_attention_heads=1, pad_token_id=PAD
    )
    config.mask_token_id = MASK
    model = BagForSequenceClassification(config).double().eval()
    with torch.no_grad():
        model.head.weight.normal_()
        model.get_input_embeddings().weight.normal_()
    return model


def contributions(model, ids: torch.Tensor, label: int) -> torch.Tensor:
    """[..] what a token of each id adds to the logit of a class."""
    return (model.get_input_embeddings().weight @ model.head.weight[label])[ids].detach()
