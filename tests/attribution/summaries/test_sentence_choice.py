from __future__ import annotations

import pytest
import torch
from tiny_models import CONFIGURATIONS
from transformers import BertConfig, BertTokenizerFast

from attribution import Explainer
from attribution.errors import InputError
from attribution.patterns import PatternFile, inject
from attribution.patterns.students import StudentShape, sentence_student
from attribution.summaries import encode, sentence_logits
from attribution.summaries.choice import check_method, choosing, inputs_of
from evaluation import evaluate_all

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "c", "d", "good"]
DOCUMENTS = [["a b good c", "b"], ["c d", "a good", "b b b c"], ["d"]]
MASK = 4
FILE = {
    "schema": 1,
    "patterns": {"own": {"pred": {"same_segment": "block"}}},
    "inject": {"target": "student", "assign": {"strategy": "per_layer_cycle", "order": ["own"]}},
}


@pytest.fixture
def tokenizer(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(WORDS))
    return BertTokenizerFast(str(path))


@pytest.fixture(params=["plain", "patterns"])
def scorer(request, tokenizer):
    model = sentence_student(BertConfig(**CONFIGURATIONS["bert"][1]), StudentShape(2, 2, 16), seed=3)
    changed = model if request.param == "plain" else inject(model, tokenizer, PatternFile.read(FILE))
    return changed.double().eval()


def test_its_logits_are_those_of_the_sentences(scorer, tokenizer):
    batch = encode(tokenizer, DOCUMENTS)
    with torch.no_grad():
        own = sentence_logits(scorer, batch)
        found = choosing(scorer, 2, 4)(input_ids=batch.input_ids, attention_mask=batch.attention_mask,
                                       token_type_ids=batch.token_type_ids).logits  # fmt: skip
    assert found.shape == (3, 4)
    assert torch.equal(found[:, :3][batch.given], own[batch.given])
    chosen = found.softmax(1)
    assert (chosen[:, :3][~batch.given] == 0).all()
    assert (chosen[:, 3] == 0).all()
    assert type(scorer).__name__.endswith("ForTokenClassification")  # it is left as it was


def test_explanations_are_of_the_sentence_that_is_chosen(scorer, tokenizer):
    """Gradients times embeddings, by hand; and what the probability loses without the tokens that they put first."""
    model = choosing(scorer, 2, 3)
    explainer = Explainer(model, tokenizer)
    batch = encode(tokenizer, DOCUMENTS)
    inputs = inputs_of(batch).present()
    scores = explainer.scores_many(**inputs, methods={"ixg": {"method": "input_x_gradient"}})
    found = evaluate_all(explainer, **inputs, scores=scores, metrics=["aopc"], operator="mask", levels=[1])
    for row, document in enumerate(DOCUMENTS):
        alone = encode(tokenizer, [document])
        embedded = scorer.get_input_embeddings()(alone.input_ids).detach().requires_grad_()
        hook = scorer.get_input_embeddings().register_forward_hook(lambda *_args, given=embedded: given)
        logits = sentence_logits(scorer, alone)[0]
        hook.remove()
        best = int(logits.argmax())
        (gradient,) = torch.autograd.grad(logits[best], embedded)
        by_hand = (gradient * embedded).sum(-1)[0].detach()
        words = ~torch.isin(alone.input_ids[0], torch.tensor([0, 2, 3]))
        length = alone.input_ids.shape[1]
        torch.testing.assert_close(scores["ixg"][row, :length][words], by_hand[words], rtol=1e-6, atol=1e-9)
        first = int(by_hand.masked_fill(~words, -torch.inf).argmax())
        changed = alone.input_ids.clone()
        changed[0, first] = MASK
        with torch.no_grad():
            before, after = (
                sentence_logits(scorer, encode_again).softmax(1)[0, best]
                for encode_again in (alone, alone.__class__(**{**vars(alone), "input_ids": changed}))
            )
        assert float(found.values["ixg"]["aopc"][row]) == pytest.approx(float(before - after), abs=1e-6)


def test_methods_that_read_the_first_token_are_refused():
    for method in ("input_x_gradient", "saliency", "random", "occlusion"):
        check_method(method)
    for method in ("mask_lrp", "attention_rollout"):
        with pytest.raises(InputError, match=f"method={method} explains no choice of sentences"):
            check_method(method)
