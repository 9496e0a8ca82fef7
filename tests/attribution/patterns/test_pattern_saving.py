"""Models with patterns on disk: stock `from_pretrained`, explainers and other processes read them."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from injected import PREVIOUS, REPEATED, injected, logits
from tiny_models import tiny_model
from transformers import AutoModelForSequenceClassification

from attribution import Explainer
from attribution.patterns import inject, pattern_heads


@pytest.mark.parametrize("family", ["bert", "distilbert", "albert", "modernbert", "gpt2"])
def test_saved_models_are_read_by_stock_from_pretrained(family, tmp_path, tokenizer, texts):
    spelled = {"same": {"pred": {"same_token": {"casefold": True}}}, "prev": PREVIOUS}
    pal = {"target": "pal", "pal": {"width": 8, "heads": 2}}
    for number, target in enumerate(({}, pal)):
        changed = inject(tiny_model(family, torch.float32), tokenizer, injected(spelled, **target))
        with torch.no_grad():
            for parameter in pattern_heads(changed).parameters():
                parameter.normal_(generator=torch.Generator().manual_seed(7))
        changed.save_pretrained(tmp_path / str(number))
        assert list((tmp_path / str(number)).glob("*.safetensors"))
        read, report = AutoModelForSequenceClassification.from_pretrained(
            tmp_path / str(number), output_loading_info=True
        )
        assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
        assert type(read) is type(changed)
        assert torch.equal(pattern_heads(read).spelling, pattern_heads(changed).spelling)
        assert torch.equal(logits(read, texts), logits(changed, texts))
        assert not torch.equal(logits(read, texts), logits(tiny_model(family, torch.float32), texts))


def test_explainers_load_models_with_patterns(tmp_path, tokenizer, bert, texts):
    changed = inject(bert, tokenizer, injected({"same": {"pred": {"same_token": {"casefold": True}}}}))
    changed.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    explainer = Explainer.from_pretrained(tmp_path / "model", device="cpu")
    assert torch.equal(logits(explainer.model, texts), logits(changed, texts))
    (found,) = explainer.explain(["The cat saw the cat."], method="saliency")
    assert found.tokens[1:-1] == ["The", "cat", "saw", "the", "cat", "."]


READ = """
import sys, torch
if sys.argv[1] == "registered":
    import attribution.patterns
from transformers import AutoModelForSequenceClassification
model = AutoModelForSequenceClassification.from_pretrained(sys.argv[2])
print(model(torch.arange(5, 15)[None]).logits.tolist())
"""


@pytest.mark.slow
def test_another_process_reads_them_if_attention_is_registered_and_refuses_them_if_not(bert, tmp_path):
    changed = inject(bert, None, injected({"prev": PREVIOUS, "same": REPEATED}))
    changed.save_pretrained(tmp_path)
    registered, plain = (
        subprocess.run([sys.executable, "-c", READ, how, str(tmp_path)], capture_output=True, text=True, check=False)
        for how in ("registered", "plain")
    )
    assert json.loads(registered.stdout) == changed(torch.arange(5, 15)[None]).logits.tolist()
    assert plain.returncode != 0
    assert "headlight-bert" in plain.stderr
