"""The Value Zeroing experiments run whole on stand-ins; what they leave is compared with the plain model's, anew."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path

import huggingface_hub
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.metrics import average_precision_score
from tiny_models import save_tiny
from transformers import AutoModelForMaskedLM, AutoTokenizer, BertConfig, BertForMaskedLM, BertTokenizerFast

from attribution import Explainer, InputError
from evaluation.probing import ProbeRecipe, probe_code
from pipeline.data import agreement
from pipeline.data.agreement_rules import cue_rows
from pipeline.execution import make_progress
from pipeline.models import masked
from pipeline.models.finetune import Recipe
from pipeline.report import build_report
from pipeline.run import run
from pipeline.validate import load_config

NAMES, VERBS = ("sue", "tim", "ann", "bob"), ("saw", "hurt")
PAIRS = [
    *(("anaphor_number_agreement", f"{n} {v} herself.", f"{n} {v} themselves.") for n in NAMES for v in VERBS),
    *(("anaphor_number_agreement", f"Those girls {v} themselves.", f"Those girls {v} herself.") for v in VERBS),
    *(("determiner_noun_agreement_2", f"{n} saw this cup.", f"{n} saw these cup.") for n in NAMES),
    *(("determiner_noun_agreement_2", f"{n} saw those cups.", f"{n} saw that cups.") for n in NAMES),
    *(("determiner_noun_agreement_with_adj_2", f"{n} saw these old cups.", f"{n} saw this old cups.") for n in NAMES),
    ("distractor_agreement_relational_noun", "The son of the girls isn't old.", "The son of the girls aren't old."),
    ("distractor_agreement_relational_noun", "The sons of the girl are old.", "The sons of the girl is old."),
    ("regular_plural_subject_verb_agreement_1", "Those girls see sue.", "Those girls sees sue."),
    *(("regular_plural_subject_verb_agreement_1", f"{n} sees the cup.", f"{n} see the cup.") for n in NAMES),
]
RECORDS = [{"uid": uid, "pair": i, "good": good, "bad": bad} for i, (uid, good, bad) in enumerate(PAIRS)]
VOCABULARY = sorted({word for _, *pair in PAIRS for text in pair for word in text.lower().rstrip(".").split()})
WORDS = [word for word in VOCABULARY if "'" not in word and word != "sees"] + ["not", "##s", "."]
LAYERS = 2
MAPPED = (
    "value_zeroing",
    "attention_norm",
    "attention_norm_residual",
    "globenc",
    "alti",
    "attention_flow",
    "grad_rollout",
)
TRAINED = ["sst2/train_sentences.tsv", "ud_ewt/dev.jsonl"]


def save_masked(folder: Path, *, head: bool = True) -> Path:
    """A tiny masked language model that knows the words; `sees` comes in two pieces."""
    folder.mkdir(parents=True)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    (folder / "vocab.txt").write_text("\n".join(words))
    BertTokenizerFast(str(folder / "vocab.txt"), model_max_length=32).save_pretrained(folder)
    sizes = {"hidden_size": 16, "num_hidden_layers": LAYERS, "num_attention_heads": 2, "intermediate_size": 32}
    torch.manual_seed(4)
    model = BertForMaskedLM(
        BertConfig(vocab_size=len(words), max_position_embeddings=32, initializer_range=0.4, **sizes)
    )
    (model if head else model.bert).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Stand-ins for what the experiments read: data, the Hub's checkpoint, the embedded encoder, the cue file."""
    root = tmp_path_factory.mktemp("mixing")
    data = root / "data"
    for name, text in zip(TRAINED, ("sentence\n", ""), strict=True):
        (data / name).parent.mkdir(parents=True)
        rows = [f"{n} {v} the old cup" for n in NAMES for v in VERBS]
        lines = [row if name.endswith("tsv") else json.dumps({"text": row}) for row in rows]
        (data / name).write_text(text + "\n".join(lines))
    (data / "blimp").mkdir()
    (data / "blimp" / "agreement.jsonl").write_text("".join(json.dumps(row) + "\n" for row in RECORDS))
    cues = {(row["paradigm"], str(row["pair"])): {k: str(v) for k, v in row.items()} for row in cue_rows(RECORDS)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADLIGHT_DATA", str(data))
        patch.setattr(agreement, "cues", lambda: cues)
        encoder, hub = save_masked(root / "encoder", head=False), save_masked(root / "hub")
        patch.setattr(masked, "encoder_folder", lambda: encoder)
        patch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(hub))
        yield root


QUICK = ["dataset.split=all", "tracking=none", "evaluation.bootstrap_samples=50", "cluster.max_batch=4"]


def go(place, name, *changes):
    overrides = [f"experiment={name}", *QUICK, f"paths.root={place / 'outputs'}", *changes]
    result = run(load_config(overrides), overrides, make_progress(silent=True))
    assert result.exit_code == 0
    return Ran(result.folder)


class Ran:
    """A finished run, and the plain model it was of."""

    def __init__(self, folder):
        self.folder = folder

    def table(self, name):
        return pq.read_table(self.folder / f"{name}.parquet").to_pylist()

    def of(self, name, **wanted):
        return [row for row in self.table(name) if all(row[key] == value for key, value in wanted.items())]

    @cached_property
    def manifest(self):
        return json.loads((self.folder / "manifest.json").read_text())

    @cached_property
    def examples(self):
        return {row["item_id"]: row for row in self.table("examples")}


@pytest.fixture(scope="module")
def paper(place):
    return go(place, "paper/value_zeroing")


@pytest.fixture(scope="module")
def model(place):
    return BertForMaskedLM.from_pretrained(place / "hub").eval()


@pytest.fixture(scope="module")
def explainer(place, model):
    return Explainer(model, AutoTokenizer.from_pretrained(place / "hub"))


def plain_logits(model, ids):
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids])).logits[0]


def test_pairs_whose_forms_are_several_tokens_are_left_out(paper):
    groups = {row["group"] for row in paper.examples.values()}
    assert groups == {"ana", "dna", "dnaa", "darn"}
    assert any(
        "left out: one of the two forms is several tokens" in note for note in paper.manifest["dataset"]["notes"]
    )
    assert len(paper.examples) == len(PAIRS) - 5


def test_examples_are_masked_where_the_forms_differ(paper):
    row = next(row for row in paper.examples.values() if row["text"] == "The son of the girls is not old.")
    assert row["tokens"] == ["[CLS]", "the", "son", "of", "the", "girls", "[MASK]", "not", "old", ".", "[SEP]"]
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    assert [words[token] for token in row["choices"]] == ["is", "are"]
    assert [token for token, cue in zip(row["tokens"], row["rationale"], strict=True) if cue] == ["son"]
    assert (row["masked"], row["label"], row["label_name"]) == (6, 0, "singular")
    assert row["special_tokens"] == [True, *[False] * 5, True, *[False] * 3, True]


def test_predictions_choose_between_the_two_forms(paper, model):
    right = 0
    for row in paper.table("predictions"):
        example = paper.examples[row["item_id"]]
        logits = plain_logits(model, example["input_ids"])[example["masked"], example["choices"]]
        assert row["logits"] == pytest.approx(logits.tolist(), abs=1e-5)
        right += int(logits.argmax()) == example["label"]
    assert paper.manifest["accuracy"] == pytest.approx(right / len(paper.examples))


@pytest.mark.parametrize("method", ["value_zeroing", "raw_attention"])
def test_alignment_is_that_of_the_plain_rows(paper, explainer, method):
    for item in list(paper.examples)[::5]:
        example = paper.examples[item]
        ids, cues = torch.tensor([example["input_ids"]]), np.array(example["rationale"])
        rows = explainer.context_mixing(ids, method=method, rows=[example["masked"]])[0, :, 0].numpy()
        found = {row["layer"]: row for row in paper.of("alignments", method=method, item_id=item, view="layer")}
        assert sorted(found) == [1, 2]
        for layer, row in found.items():
            scores = rows[layer - 1]
            assert row["dot_product"] == pytest.approx(scores[cues].sum() / scores.sum(), abs=1e-4)
            assert row["average_precision"] == pytest.approx(average_precision_score(cues, scores), abs=1e-9)


@pytest.mark.parametrize("method", MAPPED)
def test_rolled_out_through_all_layers_it_is_the_explanation(paper, method):
    explained = {row["item_id"]: row["value"] for row in paper.of("values", method=method, metric="dot_product")}
    top = paper.of("alignments", method=method, view="rollout", layer=LAYERS)
    assert len(top) == len(explained)
    for row in top:
        assert row["dot_product"] == pytest.approx(explained[row["item_id"]], abs=1e-4)


def test_blanking_out_is_a_loop_over_the_words(paper, model):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    item, example = next(iter(paper.examples.items()))
    order = [example["label"], 1 - example["label"]]
    good, bad = (example["choices"][i] for i in order)

    def margin(ids):
        logits = plain_logits(model, ids)[example["masked"]]
        return float(logits[good] - logits[bad])

    compared = [i for i, special in enumerate(example["special_tokens"]) if not special]
    for label, token in (("blank_mask", words.index("[MASK]")), ("blank_unk", words.index("[UNK]"))):
        ids = example["input_ids"]
        changes = [abs(margin(ids) - margin([*ids[:i], token, *ids[i + 1 :]])) for i in compared]
        (row,) = paper.of("attributions", method=label, item_id=item)
        assert [abs(row["scores"][i]) for i in compared] == pytest.approx(changes, abs=1e-4)
        (scores,) = paper.of("attributions", method="value_zeroing", item_id=item)
        (value,) = paper.of("values", method="value_zeroing", item_id=item, metric=f"blank_out@{label}")
        expected = spearmanr([scores["scores"][i] for i in compared], changes).statistic
        assert value["value"] == pytest.approx(expected, abs=1e-9)


def test_references_are_not_measured_against_themselves(paper):
    measured = {row["method"] for row in paper.table("values") if row["metric"].startswith("blank_out")}
    assert measured == set(paper.manifest["methods"]) - {"blank_mask", "blank_unk"}


def test_probes_read_the_states_of_the_masked_word(paper, model):
    states = [[] for _ in range(LAYERS + 1)]
    for example in paper.examples.values():
        with torch.no_grad():
            found = model(input_ids=torch.tensor([example["input_ids"]]), output_hidden_states=True).hidden_states
        for layer, state in enumerate(found):
            states[layer].append(state[0, example["masked"]])
    labels = torch.tensor([example["label"] for example in paper.examples.values()])
    rows = {(row["form"], row["layer"]): row for row in paper.table("probes")}
    assert sorted(rows) == [(form, layer) for form in ("reference", "strict") for layer in range(LAYERS + 1)]
    for (form, layer), row in rows.items():
        code = probe_code(torch.stack(states[layer]), labels, n_classes=2, form=form, recipe=ProbeRecipe())
        assert row["n"] == len(labels)
        assert (row["length"], row["compression"]) == pytest.approx((code.length, code.compression), rel=1e-3)


def test_means_are_of_the_examples_and_profiles_of_the_means(paper):
    for group in ("all", "dna"):
        own = [r for r in paper.of("alignments", method="alti", view="layer", layer=2) if group in ("all", r["group"])]
        (mean,) = paper.of(
            "alignment_means", method="alti", view="layer", layer=2, group=group, metric="average_precision"
        )
        assert mean["value"] == pytest.approx(np.mean([row["average_precision"] for row in own]), abs=1e-12)
        assert mean["low"] <= mean["value"] <= mean["high"]
        assert (mean["n"], mean["n_undefined"]) == (len(own), 0)
    (chance,) = paper.of("alignment_means", method="chance", group="all", metric="dot_product")
    shares = [sum(row["rationale"]) / len(row["rationale"]) for row in paper.examples.values()]
    assert chance["value"] == pytest.approx(np.mean(shares))
    curve = [
        row["value"]
        for row in paper.of("alignment_means", method="alti", view="layer", group="all", metric="dot_product")
    ]
    codes = [row["compression"] for row in paper.of("probes", form="strict") if row["layer"]]
    (profile,) = paper.of("profiles", method="alti", view="layer", metric="dot_product", form="strict")
    assert profile["spearman"] == pytest.approx(spearmanr(curve, codes).statistic)


def test_the_report_maps_every_paradigm(paper):
    page = build_report(paper.folder, texts="none", examples=1).read_text()
    for text in ("Cues, layer by layer", "anaphor and its subject", "verb and noun, a distractor between", "Probes"):
        assert text in page
    assert page.count("rolled out up to each layer") == 2


def test_the_batch_changes_no_ranking_and_nothing_is_computed_twice(place, paper):
    asked = ["attribution=none", "attribution.value_zeroing.method=value_zeroing", "attribution.random.method=random"]
    asked += ["evaluation.metrics=[dot_product]", "mixing.blank_out=[]", "mixing.probes=[]"]
    for size in (1, 3):
        other = go(place, "paper/value_zeroing", *asked, f"cluster.max_batch={size}", "name=other")
        pairs = [{(r["item_id"], r["view"], r["layer"]): r for r in each.of("alignments", method="value_zeroing")}
                 for each in (paper, other)]  # fmt: skip
        assert pairs[0].keys() == pairs[1].keys()
        for key, row in pairs[0].items():
            assert row["average_precision"] == pairs[1][key]["average_precision"]
            assert row["dot_product"] == pytest.approx(pairs[1][key]["dot_product"], abs=1e-6)
    again = go(place, "paper/value_zeroing", *asked, "cluster.max_batch=3", "name=again")
    assert again.manifest["reuse"]["mix_context"]["computed"] == 0
    assert again.table("alignments") == other.table("alignments")


FEW = [
    "attribution=none", "attribution.value_zeroing.method=value_zeroing", "attribution.random.method=random",
    "evaluation.metrics=[dot_product,average_precision]", "mixing.blank_out=[]", "mixing.probes=[]",
]  # fmt: skip


def test_a_head_is_trained_for_the_encoder_on_the_texts_given(place):
    it = go(place, "cue_alignment", *FEW)
    (folder,) = (place / "outputs" / "models").glob("lm_head-*")
    quality = json.loads((folder / "lm_head.json").read_text())["quality"]
    assert quality["trained_on"] + quality["texts"] == 16
    assert it.manifest["model"]["name"] == "minilm_masked"
    assert it.manifest["model"]["task"] == "masked_token"
    assert {row["group"] for row in it.table("alignment_means")} == {"all", "ana", "dna", "dnaa", "darn"}


def test_fine_tuning_is_on_the_other_half_and_helps(place, monkeypatch, paper):
    quick = Recipe(epochs=40, batch_size=8, learning_rate=1e-2, warmup=0.1, weight_decay=0.0, max_length=32, seed=42)
    monkeypatch.setattr(masked, "AGREEMENT", quick)
    data = place / "data" / "blimp" / "agreement.jsonl"
    tuned = go(place, "paper/value_zeroing", *FEW, f"model.tune_on={data}", "dataset.split=train", "name=tuned")
    assert tuned.manifest["accuracy"] == 1.0
    assert tuned.manifest["model"]["name"].endswith("_tuned")
    assert tuned.manifest["model"]["fingerprint"] != paper.manifest["model"]["fingerprint"]


def test_the_loss_is_cross_entropy_of_the_right_form_against_the_wrong_one(place, model):
    tokenizer = AutoTokenizer.from_pretrained(place / "hub")
    right, wrong = (tokenizer(text)["input_ids"] for text in ("sue saw this cup.", "sue saw these cup."))
    loss = masked.agreement_loss(AutoModelForMaskedLM.from_pretrained(place / "hub"), tokenizer, [(right, 3, wrong[3])])
    ids = [*right[:3], tokenizer.mask_token_id, *right[4:]]
    logits = plain_logits(model, ids)[3]
    expected = -torch.stack((logits[right[3]], logits[wrong[3]])).log_softmax(0)[0]
    assert float(loss.detach()) == pytest.approx(float(expected), abs=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("mixing.probes=[loose]", "mixing.probes: loose is not a form"),
        ("mixing.blank_out=[nothing]", "mixing.blank_out: nothing is not a label of attribution"),
        ("mixing.blank_out=[]", "blank_out is measured against mixing.blank_out"),
        ("dataset.form=texts", "mixing.layers is for dataset.form=agreement, not texts"),
        ("dataset.form=pairs", "dataset.form=pairs is not a choice"),
    ],
)
def test_what_cannot_be_asked_is_said(place, change, message):
    with pytest.raises(InputError, match=message.replace("[", r"\[")):
        load_config(["experiment=paper/value_zeroing", *QUICK, change])


def test_a_classifier_is_refused(place, tmp_path):
    with pytest.raises(InputError, match="dataset blimp_agreement is for masked_token"):
        go(place, "paper/value_zeroing", "model=local", f"model.path={save_tiny('bert', tmp_path / 'tiny')}")
