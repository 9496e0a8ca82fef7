"""The explorer's requests: the numbers are the library's, wrong ones are told in a line, strangers are turned away."""

from __future__ import annotations

import base64
import json
import threading

import numpy as np
import pytest
import torch
import yaml
from explore_runs import HERE, client, explored_run, last, other_run, write_treebank
from pattern_runs import FILE, go
from tiny_experiment import TEXTS

from attribution.explainer import Explainer
from attribution.heads.maps import mean_attention, word_map
from attribution.patterns import PatternFile, inject, pattern_relevance
from attribution.patterns.parsed import tree_batches
from attribution.patterns.predicates import read_predicate
from pipeline.cli import main, parse
from pipeline.data.treebanks import load_treebank
from pipeline.explore.routes import assets
from pipeline.explore.security import allowed_hosts, cookie_of, is_loopback
from pipeline.explore.server import listen
from pipeline.runs import Run

MATCH = {"same_token": {"casefold": True}}
BUILT = {"and": [{"offset": [-3, -1]}, {"not": {"key": "special"}}]}
PATTERN = {"pred": {"offset": -1}, "mode": "fix", "why": "it looks back", "seen_in": ["0.1"]}
PUT = {"target": "in_place", "assign": {"strategy": "map", "heads": {"0.1": "back"}}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return explored_run(tmp_path_factory.mktemp("explored"))


@pytest.fixture(scope="module")
def explainer(folder):
    return Explainer.from_pretrained(Run(folder).config["model"]["path"], device="cpu")


@pytest.fixture(scope="module")
def batch(explainer):
    return explainer.tokenizer([text for text, _ in TEXTS], padding=True, return_tensors="pt")


@pytest.fixture(scope="module")
def page(folder, tmp_path_factory):
    return client(folder, tmp_path_factory.mktemp("found") / "patterns.yaml")


@pytest.fixture
def notebook(folder, tmp_path):
    return client(folder, tmp_path / "patterns.yaml")


def halves(response, *shape):
    assert response.status_code == 200, response.text
    return np.frombuffer(response.content, "<f2").reshape(shape).astype(np.float64)


# --- the page ---------------------------------------------------------------------------------------------------------


def test_the_page_comes_with_all_it_is_made_of_and_loads_nothing_else(page):
    html = page.get("/").text
    assert "http://" not in html
    assert "https://" not in html
    for name in assets():
        response = page.get(f"/assets/{name}")
        assert response.status_code == 200
        assert response.headers["x-content-type-options"] == "nosniff"
        assert "style=" not in response.text or name.endswith((".js", ".css"))
        for writing in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"):
            assert writing not in response.text, (name, writing)
    policy = page.get("/").headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


@pytest.mark.parametrize("name", ["../routes.py", "..%2froutes.py", "none.js", "__init__.py"])
def test_nothing_else_is_served(page, name):
    assert page.get(f"/assets/{name}").status_code == 404


def test_what_the_page_knows_of_the_run(page, folder):
    about = page.get("/api/run").json()
    assert (about["layers"], about["heads"], len(about["texts"])) == (3, 4, len(TEXTS))
    assert about["texts"][0]["title"] == TEXTS[0][0]
    metrics = {metric["id"]: metric for metric in about["metrics"]}
    assert set(metrics) == {"run:importance:gate_grad", "pattern:match", "pattern:prev"}
    for row in Run(folder).table("patterns").to_pylist():
        if row["queries"] == "all":
            found = metrics[f"pattern:{row['pattern']}"]["values"][row["layer"]][row["head"]]
            assert found == pytest.approx(row["relevance"], rel=1e-5)
    assert about["methods"][0] == "ixg"
    assert "lime_like" not in about["methods"]  # it asks the model many times
    assert "value_zeroing" not in about["methods"]  # it would not see that a head is off
    assert {"attn_lrp", "raw_attention"} <= set(about["methods"])


# --- heads and texts --------------------------------------------------------------------------------------------------


def test_the_survey_is_the_librarys_mean_map(page, explainer, batch):
    result, steps = last(page.post("/api/survey", json={}))
    assert [step["done"] for step in steps] == sorted(step["done"] for step in steps)
    size = result["size"]
    wanted = mean_attention(explainer, [batch], length=size).mean
    found = halves(page.get("/api/maps"), 3, 4, size, size)
    assert found == pytest.approx(wanted.numpy(), abs=1e-3)
    assert {metric["id"] for metric in result["metrics"]} == {
        "text:confidence", "text:entropy", "text:normalized_entropy",
    }  # fmt: skip
    middle = result["offsets"]["reach"]
    queries = float(batch["attention_mask"].sum())
    own = sum(
        float(each[1, 2][range(n), range(n)].sum())
        for each, n in zip(attentions(explainer, batch), batch["attention_mask"].sum(1).tolist(), strict=True)
    )
    assert result["offsets"]["values"][1][2][middle] == pytest.approx(own / queries, rel=1e-4)


def attentions(explainer, batch):
    """[L, H, N, N] of each text."""
    from attribution.model.inputs import Inputs

    return torch.stack(explainer.adapter.attentions(Inputs.from_mapping(batch)), 1)


def test_one_head_on_one_text(page, explainer, batch):
    text = page.get("/api/documents/5").json()
    n = len(text["pieces"])
    assert "".join(text["pieces"][1:-1]).strip() == TEXTS[5][0]
    whole = attentions(explainer, batch)[5, 2, 3, :n, :n]
    asked = "/api/attention?document=5&layer=2&head=3"
    assert halves(page.get(asked), n, n) == pytest.approx(whole.numpy(), abs=1e-3)
    every = attentions(explainer, batch)[5, :, :, :n, :n]
    assert halves(page.get("/api/documents/5/maps"), 3, 4, n, n) == pytest.approx(every.numpy(), abs=1e-3)
    words = torch.tensor(text["words"])
    by_word = word_map(whole.double(), words).numpy()
    assert halves(page.get(f"{asked}&level=word"), *by_word.shape) == pytest.approx(by_word, abs=1e-3)
    assert by_word.shape[0] < n
    inside = whole[1:-1, 1:-1].numpy()
    assert halves(page.get(f"{asked}&specials=hidden"), n - 2, n - 2) == pytest.approx(inside, abs=1e-3)
    again = halves(page.get(f"{asked}&specials=hidden&renormalise=yes"), n - 2, n - 2)
    assert again == pytest.approx(inside / inside.sum(1, keepdims=True), abs=2e-3)


# --- patterns ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("queries", ["all", "applicable"])
@pytest.mark.parametrize("predicate", [MATCH, BUILT, {"same_segment": "sentence"}])
def test_relevance_is_the_librarys(page, explainer, batch, predicate, queries):
    result, _ = last(page.post("/api/measure", json={"predicate": predicate, "queries": queries}))
    patterns = {"": read_predicate(predicate)}
    wanted = pattern_relevance(explainer.adapter, [batch], patterns, seeds=(), queries=queries)
    assert np.array(result["scores"]) == pytest.approx(wanted.scores[0].numpy(), abs=1e-5)
    assert result["uniform"] == pytest.approx(float(wanted.uniform[0]), rel=1e-5)
    assert result["heads_bar"] == pytest.approx(float(wanted.heads_bar[0]), abs=1e-5)


def test_relevance_by_hand(page, explainer, batch):
    """The mean over texts of the mean over tokens of what lies on the token before."""
    result, steps = last(page.post("/api/measure", json={"predicate": {"offset": -1}}))
    each = attentions(explainer, batch)
    lengths = batch["attention_mask"].sum(1).tolist()
    masses = [
        sum(float(attention[0, 1, i, i - 1]) for i in range(1, n)) / n
        for attention, n in zip(each, lengths, strict=True)
    ]
    assert result["scores"][0][1] == pytest.approx(sum(masses) / len(masses), rel=1e-5)
    assert result["uniform"] == pytest.approx(sum((n - 1) / n**2 for n in lengths) / len(lengths), rel=1e-5)
    asked = {"predicate": {"offset": -1}, "layer": 0, "head": 1}
    ends = page.post("/api/extremes", json=asked).json()
    order = sorted(range(len(masses)), key=lambda text: -masses[text])
    assert [text for text, _ in ends["best"]] == order[:5]
    assert [text for text, _ in ends["worst"]] == order[::-1][:5]
    assert ends["best"][0][1] == pytest.approx(max(masses), rel=1e-5)
    assert steps == [] or steps[-1]["done"] == len(TEXTS)


def test_random_models_are_the_librarys(page, explainer, batch):
    asked = {"predicate": {"offset": [-2, -1]}, "random": True}
    result, steps = last(page.post("/api/measure", json=asked))
    wanted = pattern_relevance(explainer.adapter, [batch], {"": read_predicate({"offset": [-2, -1]})})
    assert result["random_bar"] == pytest.approx(float(wanted.random_bar[0]), abs=1e-5)
    assert result["significant"] == wanted.significant[0].tolist()
    assert steps[-1]["total"] == 3 * len(TEXTS)
    assert last(page.post("/api/measure", json=asked)) == (result, [])
    own = last(page.post("/api/measure", json={"predicate": {"key": "first"}}))[0]
    assert (own["random_bar"], own["significant"]) == (None, None)


def test_what_was_measured_is_not_measured_again(page):
    asked = {"predicate": {"offset": [1, 2]}}
    assert last(page.post("/api/measure", json=asked))[1] != []
    assert last(page.post("/api/measure", json=asked))[1] == []


def test_where_a_pattern_holds_in_a_text(page, explainer, batch):
    asked = {"predicate": {"offset": -1}, "document": 0, "layer": 0, "head": 1}
    found = page.post("/api/where", json=asked).json()
    n = int(batch["attention_mask"][0].sum())
    bits = np.unpackbits(np.frombuffer(base64.b64decode(found["holds"]), np.uint8), bitorder="little")[: n * n]
    assert np.array_equal(bits.reshape(n, n), np.eye(n, k=-1))
    attention = attentions(explainer, batch)[0, 0, 1]
    wanted = [0.0, *(float(attention[i, i - 1]) for i in range(1, n))]
    assert found["mass"] == pytest.approx(wanted, abs=1e-5)


# --- changes ----------------------------------------------------------------------------------------------------------


def change(page, **changes):
    asked = {"gates": {}, "patterns": {}, "document": 1, "method": "ixg", **changes}
    response = page.post("/api/change", json=asked)
    assert response.status_code == 200, response.text
    return response.json()


def test_without_changes_nothing_changes(page, folder):
    found = change(page)
    assert found["before"] == found["after"]
    row = Run(folder).table("attributions").to_pylist()
    own = next(each for each in row if each["method"] == "ixg" and each["item_id"] == item(folder, 1))
    assert found["before"]["scores"] == pytest.approx(own["scores"], abs=1e-5)
    assert found["target"] == own["target"]


def item(folder, number):
    return Run(folder).table("examples").to_pylist()[number]["item_id"]


def test_a_head_that_is_off_is_a_head_whose_output_is_not_read(page, explainer, batch):
    found = change(page, gates={"1.2": 0, "0.0": 0.5})
    changed = Explainer.from_pretrained(explainer.model.name_or_path, device="cpu")
    size = changed.model.config.hidden_size // 4
    with torch.no_grad():
        layers = changed.model.bert.encoder.layer
        layers[1].attention.output.dense.weight[:, 2 * size : 3 * size] = 0
        layers[0].attention.output.dense.weight[:, :size] *= 0.5
    n = int(batch["attention_mask"][1].sum())
    given = {name: value[1:2, :n] for name, value in batch.items()}
    with torch.inference_mode():
        wanted = changed.model(**given).logits[0].softmax(-1)
    assert found["after"]["probabilities"] == pytest.approx(wanted.tolist(), abs=1e-5)
    scores = changed.scores(
        given["input_ids"], method="input_x_gradient", target=found["target"], token_type_ids=given["token_type_ids"]
    )[0]
    assert found["after"]["scores"] == pytest.approx(scores.tolist(), abs=1e-4)
    assert change(page)["after"] == found["before"]  # and it is on again


def test_a_head_with_a_pattern_is_the_injected_model(page, explainer, batch):
    found = change(page, patterns={"0.1": {"pred": {"offset": -1}, "mode": "fix"}}, method="attn_lrp")
    patterns = {"schema": 1, "patterns": {"prev": {"pred": {"offset": -1}, "mode": "fix"}}}
    assign = {"strategy": "map", "heads": {"0.1": "prev"}}
    file = PatternFile.read({**patterns, "inject": {"target": "in_place", "assign": assign}})
    model = inject(explainer.model, explainer.tokenizer, file)
    n = int(batch["attention_mask"][1].sum())
    with torch.inference_mode():
        wanted = model(**{name: value[1:2, :n] for name, value in batch.items()}).logits[0]
    assert found["after"]["logits"] == pytest.approx(wanted.tolist(), abs=1e-5)
    assert found["after"]["scores"] != pytest.approx(found["before"]["scores"], abs=1e-4)


def test_changes_on_all_texts(page, explainer, batch):
    off = {f"{layer}.{head}": 0 for layer in range(3) for head in range(4)}
    result, steps = last(page.post("/api/sample", json={"gates": off, "patterns": {}}))
    assert result["texts"] == len(TEXTS) == steps[-1]["done"]
    with torch.inference_mode():
        before = explainer.model(**batch).logits.double()
        from attribution.heads.outputs import gated, head_outputs

        with head_outputs(explainer.adapter, gated(torch.zeros(3, 4))):
            after = explainer.model(**batch).logits.double()
    apart = (before.softmax(1) * (before.log_softmax(1) - after.log_softmax(1))).sum(1).mean()
    assert result["divergence"] == pytest.approx(float(apart), rel=1e-4)
    assert result["same_decision"] == pytest.approx(float((before.argmax(1) == after.argmax(1)).double().mean()))
    assert last(page.post("/api/sample", json={"gates": {}, "patterns": {}}))[0]["divergence"] == 0


def test_requests_at_the_same_time_do_not_disturb_each_other(page):
    """Changed models, explanations and attention, all at once, say what each says alone."""
    alone = [change(page), change(page, gates={"1.2": 0}), change(page, method="attn_lrp")]
    attention = page.get("/api/attention?document=3&layer=1&head=2").content
    found, problems = {}, []

    def ask(number):
        try:
            kind = number % 4
            if kind == 3:
                found[number] = page.get("/api/attention?document=3&layer=1&head=2").content == attention
            else:
                given = [{}, {"gates": {"1.2": 0}}, {"method": "attn_lrp"}][kind]
                found[number] = change(page, **given) == alone[kind]
        except Exception as error:
            problems.append(error)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert all(found.values())
    assert len(found) == 12


# --- saving -----------------------------------------------------------------------------------------------------------


def save(page, **changes):
    return page.post("/api/save", json={"patterns": {"back": PATTERN}, "person": "Ann", "why": "seen", **changes})


def test_what_is_saved_loads_and_says_who_and_why(notebook, tmp_path):
    found = save(notebook, inject=PUT).json()
    file = PatternFile.load(tmp_path / "patterns.yaml")
    assert file.patterns["back"].why == "it looks back"
    assert file.patterns["back"].seen_in == ("0.1",)
    assert file.chosen_by.person == "Ann"
    assert file.chosen_by.why == "seen"
    assert len(file.chosen_by.date) == 10
    assert found["path"] == str(tmp_path / "patterns.yaml")
    there = notebook.get("/api/patterns").json()["there"]
    assert there["file"]["patterns"]["back"]["pred"] == {"offset": -1}


def test_nothing_is_replaced_unasked(notebook, tmp_path):
    digest = save(notebook).json()["digest"]
    before = (tmp_path / "patterns.yaml").read_bytes()
    again = save(notebook, person="Bob")
    assert again.status_code == 409
    assert "back" in again.json()["error"]
    assert save(notebook, replaces="0" * 64).status_code == 409
    assert (tmp_path / "patterns.yaml").read_bytes() == before
    assert save(notebook, person="Bob", replaces=digest).status_code == 200
    assert PatternFile.load(tmp_path / "patterns.yaml").chosen_by.person == "Bob"
    assert save(notebook, replaces=digest).status_code == 409  # somebody was quicker
    assert list(tmp_path.glob("*.tmp")) == []


def test_the_log_only_grows(notebook, tmp_path):
    save(notebook)
    told = {"person": "Ann", "decision": "rejected", "why": "only in short texts\nreally", "head": "0.1"}
    assert notebook.post("/api/decide", json=told).status_code == 200
    first = (tmp_path / "patterns.yaml.log.jsonl").read_text()
    notebook.post("/api/decide", json={**told, "decision": "note"})
    log = (tmp_path / "patterns.yaml.log.jsonl").read_text()
    assert log.startswith(first)
    entries = [json.loads(line) for line in log.splitlines()]
    assert [entry["did"] for entry in entries] == ["saved", "rejected", "note"]
    assert entries[0]["file"]["patterns"]["back"]["pred"] == {"offset": -1}
    assert entries[1]["why"] == told["why"]
    assert notebook.get("/api/patterns").json()["decisions"] == entries


def test_a_file_of_somebody_else_is_told_and_not_replaced(notebook, tmp_path):
    (tmp_path / "patterns.yaml").write_text("just: text")
    assert "problem" in notebook.get("/api/patterns").json()["there"]
    assert save(notebook).status_code == 409
    assert (tmp_path / "patterns.yaml").read_text() == "just: text"


def test_a_saved_file_runs(notebook, folder, tmp_path):
    assert save(notebook, inject=PUT).status_code == 200
    run = Run(folder)
    overrides = [
        "model=local", f"model.path={run.config['model']['path']}", "dataset=local",
        f"dataset.path={run.config['dataset']['path']}", "heads=all", "attribution=none",
        "+attribution.ixg=input_x_gradient", "evaluation.metrics=[aopc]", "evaluation.controls=[]", "tracking=none",
        "errors.method=null", "++model.label_map.positive=1", "++model.label_map.negative=0",
        f"paths.root={tmp_path / 'out'}", f"patterns.path={tmp_path / 'patterns.yaml'}", "patterns.random_seeds=[0]",
        "patterns.in_place=true", "patterns.control_seeds=[0]",
    ]  # fmt: skip
    done = go(overrides).folder
    arms = {row["arm"] for row in Run(done).table("arms").to_pylist()}
    assert {"base", "patterns", "random_heads"} <= arms


# --- wrong requests ---------------------------------------------------------------------------------------------------

WRONG = [
    ("/api/measure", {}, "predicate"),
    ("/api/measure", {"predicate": {}}, "one block"),
    ("/api/measure", {"predicate": {"offset": "x"}}, "whole number"),
    ("/api/measure", {"predicate": {"offset": -1}, "queries": "some"}, "queries=some"),
    ("/api/measure", {"predicate": {"dependency": {"relation": "nsubj"}}}, "trees"),
    ("/api/measure", {"predicate": {"nearby": 1}}, "nearby"),
    ("/api/measure", [1], "must be keys"),
    ("/api/extremes", {"predicate": {"offset": -1}, "layer": 9, "head": 0}, "no head 9.0"),
    ("/api/where", {"predicate": {"offset": -1}, "document": 99, "layer": 0, "head": 0}, "document=99"),
    ("/api/where", {"predicate": {"offset": -1}, "document": -1, "layer": 0, "head": 0}, "document=-1"),
    ("/api/change", {"gates": {"0.0": 2}, "patterns": {}, "document": 0, "method": "ixg"}, "0 (off) to 1"),
    ("/api/change", {"gates": {"0.0": "off"}, "patterns": {}, "document": 0, "method": "ixg"}, "0 (off) to 1"),
    ("/api/change", {"gates": {"7.0": 1}, "patterns": {}, "document": 0, "method": "ixg"}, "no head 7.0"),
    ("/api/change", {"gates": {}, "patterns": {}, "document": 0, "method": "lime"}, "not offered"),
    ("/api/save", {"patterns": {}, "person": "A"}, "at least one"),
    ("/api/save", {"patterns": {"back": PATTERN}, "person": "  "}, "person is empty"),
    ("/api/save", {"patterns": {"back": {**PATTERN, "seen_in": ["x"]}}, "person": "A"}, "seen_in"),
    ("/api/save", {"patterns": {"back": PATTERN}, "person": "A", "path": "/etc/passwd"}, "path"),
    ("/api/save", {"patterns": {"other": PATTERN}, "person": "A", "inject": PUT}, "back"),
    ("/api/decide", {"person": "A", "decision": "burn", "why": "x"}, "burn"),
    ("/api/decide", {"person": "A", "decision": "note", "why": "x" * 3000}, "3000 characters"),
]


@pytest.mark.parametrize(("path", "value", "why"), WRONG)
def test_wrong_requests_are_told_in_a_line(page, path, value, why):
    response = page.post(path, json=value)
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert why in error
    assert "\n" not in error


def test_bodies_that_are_no_requests(page):
    kind = {"content-type": "application/json"}
    assert page.post("/api/measure", content="{", headers=kind).status_code == 400
    assert page.post("/api/measure", content="[" * 5000 + "]" * 5000, headers=kind).status_code == 400
    deep = '{"not":' * 40 + "{}" + "}" * 40
    assert "deep" in page.post("/api/measure", content=deep, headers=kind).json()["error"]
    assert page.post("/api/measure", content=b"\xff\xfe", headers=kind).status_code == 400
    assert page.post("/api/measure", content=" " * (2**20 + 1), headers=kind).status_code == 413
    plain = page.post("/api/decide", content="{}", headers={"content-type": "text/plain"})
    assert "JSON" in plain.json()["error"]


@pytest.mark.parametrize("query", ["document=x&layer=0&head=0", "document=0&layer=0", "document=0&layer=-1&head=0",
                                   "document=0&layer=0&head=0&level=line", f"document={'9' * 40}&layer=0&head=0",
                                   "document=0&layer=0&head=7", "document=\u0662&layer=0&head=0"])  # fmt: skip
def test_wrong_places_are_told(page, query):
    assert page.get(f"/api/attention?{query}").status_code == 400


def test_what_fails_does_not_show_how(folder, tmp_path, monkeypatch):
    page = client(folder, tmp_path / "patterns.yaml", raising=False)
    monkeypatch.setattr("pipeline.explore.session.pieces_of", lambda row: 1 / 0)
    response = page.get("/api/documents/0")
    assert response.status_code == 500
    assert response.json()["error"].startswith("this failed: ZeroDivisionError")
    assert "Traceback" not in response.text


# --- strangers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8765", "127.0.0.1", "127.0.0.1:80", "localhost.evil:8765", ""]
)
def test_a_name_that_is_not_ours_is_turned_away(page, host):
    assert page.get("/api/run", headers={"host": host}).status_code == 421
    assert page.get("/", headers={"host": host}).status_code == 421


def test_names_that_are_ours(page):
    for host in ("127.0.0.1:8765", "localhost:8765", "LOCALHOST:8765", "[::1]:8765"):
        assert page.get("/", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("headers", [
    {"origin": "https://evil.example"}, {"origin": "null"}, {"origin": "http://127.0.0.1:9"},
    {"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"},
])  # fmt: skip
def test_pages_of_others_cannot_ask(page, headers):
    asked = {"person": "A", "decision": "note", "why": "x"}
    assert page.post("/api/decide", json=asked, headers=headers).status_code == 403
    assert page.get("/api/run", headers=headers).status_code == 403


def test_our_own_page_can(page):
    own = {"origin": HERE, "sec-fetch-site": "same-origin"}
    assert page.get("/api/run", headers=own).status_code == 200


def test_other_machines_need_the_token(folder, tmp_path):
    base = "http://192.0.2.7:8765"
    page = client(folder, tmp_path / "patterns.yaml", host="192.0.2.7", token="the-token", base=base)
    cookie = cookie_of(8765)
    for path in ("/", "/api/run", "/assets/main.js", "/?token=wrong", "/?token=", "/api/run?token=the-token"):
        assert page.get(path).status_code == 401, path
    assert page.get("/", headers={"cookie": f"{cookie}=wrong"}).status_code == 401
    assert page.get("/", headers={"cookie": f"{cookie}=\u00e9".encode("latin-1")}).status_code == 401
    admitted = page.get("/?token=the-token", follow_redirects=False)
    assert admitted.status_code == 303
    assert admitted.headers["location"] == "/"
    for part in ("HttpOnly", "samesite=strict"):
        assert part.lower() in admitted.headers["set-cookie"].lower()
    assert page.get("/").status_code == 200
    assert page.get("/api/run").status_code == 200
    assert page.get("/api/run", headers={"host": "evil.example:8765"}).status_code == 421


def test_which_addresses_are_this_machine_alone():
    assert [is_loopback(host) for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost")] == [True] * 4
    assert not any(is_loopback(host) for host in ("0.0.0.0", "::", "192.0.2.7", "example.org", ""))
    assert allowed_hosts("0.0.0.0", 1) is None
    assert allowed_hosts("192.0.2.7", 1) == {"192.0.2.7:1"}


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_command_has_safe_defaults():
    arguments = parse(["explore"])
    assert (arguments.run, arguments.host, arguments.port, arguments.texts) == ("last", "127.0.0.1", 8765, 200)


@pytest.mark.parametrize(("more", "why"), [
    (["--texts", "0"], "--texts 0"), (["--port", "70000"], "--port 70000"), (["--port", "-1"], "--port -1"),
    (["--root", "nowhere"], "run"),
])  # fmt: skip
def test_wrong_arguments(folder, more, why, capsys):
    assert main(["explore", str(folder) if "--root" not in more else "last", *more]) == 4
    assert why in capsys.readouterr().err


def test_a_port_that_is_taken_is_told(folder, capsys):
    with listen("127.0.0.1", 0) as taken:
        assert main(["explore", str(folder), "--port", str(taken.getsockname()[1])]) == 4
    assert "--port 0" in capsys.readouterr().err


def test_a_model_that_has_changed_is_refused(tmp_path, folder, capsys):
    import shutil

    copied = tmp_path / "copied"
    shutil.copytree(folder, copied)
    manifest = json.loads((copied / "manifest.json").read_text())
    manifest["model"]["fingerprint"] = "0" * 64
    (copied / "manifest.json").write_text(json.dumps(manifest))
    assert main(["explore", str(copied), "--port", "0"]) == 4
    assert "has changed since the run" in capsys.readouterr().err


def test_patterns_of_a_file_that_is_there_can_be_gone_on_with(folder, tmp_path):
    (tmp_path / "patterns.yaml").write_text(yaml.safe_dump(FILE))
    there = client(folder, tmp_path / "patterns.yaml").get("/api/patterns").json()["there"]
    assert list(there["file"]["patterns"]) == ["match", "prev"]


# --- other models -----------------------------------------------------------------------------------------------------


def test_questions_and_their_answers(tmp_path):
    page = client(other_run(tmp_path, "bert_qa"), tmp_path / "patterns.yaml")
    assert page.get("/api/run").json()["task"] == "question_answering"
    text = page.get("/api/documents/0").json()
    assert "".join(text["pieces"]).count("?") == 1
    words = [word for word in text["words"] if word >= 0]
    assert words == sorted(words)  # those of the context go on from those of the question
    found = change(page, document=0, gates={"0.0": 0})
    assert found["target_end"] is not None
    assert len(found["before"]["probabilities"]) == 2
    assert found["before"]["scores"] != found["after"]["scores"]
    assert last(page.post("/api/sample", json={"gates": {"0.0": 0}, "patterns": {}}))[0]["texts"] == 1
    assert last(page.post("/api/survey", json={}))[0]["size"] > 10


def test_models_that_take_no_patterns_say_so_and_do_all_else(tmp_path):
    page = client(other_run(tmp_path, "deberta_v2"), tmp_path / "patterns.yaml")
    asked = {"gates": {}, "patterns": {"0.0": {"pred": {"offset": -1}}}, "document": 1, "method": "ixg"}
    refused = page.post("/api/change", json=asked)
    assert refused.status_code == 400
    assert "deberta-v2 compute attention by themselves" in refused.json()["error"]
    assert change(page, gates={"0.0": 0})["after"]["scores"] != change(page)["after"]["scores"]
    assert last(page.post("/api/measure", json={"predicate": {"offset": -1}}))[0]["texts"] == len(TEXTS)


# --- trees ------------------------------------------------------------------------------------------------------------

NSUBJ = {"dependency": {"relation": "nsubj", "direction": "dep->head"}}


@pytest.fixture(scope="module")
def parsed(folder, tmp_path_factory):
    root = tmp_path_factory.mktemp("trees")
    return client(folder, root / "patterns.yaml", trees=write_treebank(root))


def test_sentences_of_a_treebank_take_the_place_of_the_texts(parsed):
    about = parsed.get("/api/run").json()
    assert [text["title"] for text in about["texts"]] == ["the film was this good .", "a meal and a hotel"]
    assert {"nsubj", "det", "conj"} <= set(about["relations"])
    assert about["data"] == "trees.conllu"


def test_relevance_along_a_relation_is_the_librarys(parsed, explainer, tmp_path):
    treebank = load_treebank(write_treebank(tmp_path))[:2]
    batches, names = tree_batches(explainer.adapter, treebank)
    patterns = {"": read_predicate(NSUBJ)}
    wanted = pattern_relevance(explainer.adapter, batches, patterns, seeds=(), relations=names)
    result, _ = last(parsed.post("/api/measure", json={"predicate": NSUBJ}))
    assert np.array(result["scores"]) == pytest.approx(wanted.scores[0].numpy(), abs=1e-5)
    assert float(wanted.scores[0].max()) > 0
    found = parsed.post("/api/where", json={"predicate": NSUBJ, "document": 0, "layer": 0, "head": 0}).json()
    n = len(parsed.get("/api/documents/0").json()["pieces"])
    bits = np.unpackbits(np.frombuffer(base64.b64decode(found["holds"]), np.uint8), bitorder="little")[: n * n]
    pieces = [piece.strip() for piece in parsed.get("/api/documents/0").json()["pieces"]]
    assert np.argwhere(bits.reshape(n, n)).tolist() == [[pieces.index("film"), pieces.index("good")]]


def test_a_head_that_follows_a_relation(parsed):
    pattern = {"pred": NSUBJ, "mode": "fix", "empty": "original"}
    found = change(parsed, document=0, patterns={"0.1": pattern})
    assert found["before"]["logits"] != found["after"]["logits"]
    assert last(parsed.post("/api/sample", json={"gates": {}, "patterns": {"0.1": pattern}}))[0]["texts"] == 2
    assert change(parsed, document=1, patterns={"0.1": pattern})["after"]["logits"] == pytest.approx(
        change(parsed, document=1)["after"]["logits"], abs=1e-6
    )  # no such arc in it


def test_patterns_along_relations_need_trees(page):
    changes = {"gates": {}, "patterns": {"0.1": {"pred": NSUBJ}}}
    for path, asked in (("/api/change", {**changes, "document": 0, "method": "ixg"}), ("/api/sample", changes)):
        assert "needs trees" in page.post(path, json=asked).json()["error"]


def test_a_treebank_that_is_none(folder, tmp_path, capsys):
    assert main(["explore", str(folder), "--port", "0", "--trees", str(tmp_path / "none.conllu")]) == 4
    assert "--trees=" in capsys.readouterr().err
