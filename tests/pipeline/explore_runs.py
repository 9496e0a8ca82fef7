"""A finished run to be explored, and the explorer's application on it, for tests."""

from __future__ import annotations

import json

from pattern_runs import go, write_patterns
from starlette.testclient import TestClient
from tiny_experiment import TEXTS, tiny_overrides
from tiny_models import save_tiny

from pipeline.explore.saving import Notebook
from pipeline.explore.server import guarded, opened
from pipeline.runs import Run

HERE = "http://127.0.0.1:8765"


def explored_run(folder):
    """Its folder, with an importance, a pattern and two methods."""
    texts = folder / "others.tsv"
    texts.write_text("sentence\tlabel\n" + "".join(f"{text} never dull\t{label}\n" for text, label in TEXTS))
    return go([
        *tiny_overrides(save_tiny("bert", folder / "model"), folder), "heads=gate_grad", f"heads.texts={texts}",
        f"paths.root={folder / 'outputs'}", f"patterns.path={write_patterns(folder)}", "patterns.random_seeds=[0]",
        "+attribution.ixg=input_x_gradient", "+attribution.lime_like.method=lime", "evaluation.metrics=[aopc]",
        "evaluation.controls=[]",
    ]).folder  # fmt: skip


def client(folder, save, *, texts=200, trees=None, host="127.0.0.1", token=None, base=HERE, raising=True):
    """What a browser is to the server."""
    desk = opened(Run(folder), texts, trees)
    return TestClient(
        guarded(desk, Notebook(save), host=host, port=8765, token=token), base_url=base, raise_server_exceptions=raising
    )


def last(response):
    """The result at the end of a stream, and how many lines came before."""
    assert response.status_code == 200, response.text
    lines = [json.loads(line) for line in response.text.splitlines()]
    return lines[-1]["result"], lines[:-1]


def other_run(folder, name):
    """A run of another model: of questions where it marks answers, else of the usual texts."""
    model = save_tiny(name, folder / "model")
    lines = tiny_overrides(model, folder)
    if name.endswith("_qa"):
        context = "the film was good and the meal was awful but never dull ."
        answer = {"text": ["awful"], "answer_start": [context.index("awful")]}
        row = {"question": "was the meal bad ?", "context": context, "answers": answer}
        (folder / "qa.jsonl").write_text(json.dumps(row) + "\n")
        lines = [line for line in lines if not line.startswith(("++model.label_map", "dataset.path"))]
        lines += [f"dataset.path={folder / 'qa.jsonl'}", "explain.target=span"]
    return go([
        *lines, "heads=all", f"paths.root={folder / 'outputs'}", "+attribution.ixg=input_x_gradient",
        "evaluation.metrics=[aopc]", "evaluation.controls=[]",
    ]).folder  # fmt: skip


def write_treebank(folder):
    """Two sentences with trees, in words that the tiny tokenizer takes apart, and one whose words are not its text."""
    sentences = [
        ("the film was this good .", ["the", "film", "was", "this", "good", "."], [2, 5, 5, 5, 0, 5],
         ["det", "nsubj", "cop", "advmod", "root", "punct"]),
        ("a meal and a hotel", ["a", "meal", "and", "a", "hotel"], [2, 0, 5, 5, 2],
         ["det", "root", "cc", "det", "conj"]),
        ("not there", ["elsewhere"], [0], ["root"]),
    ]  # fmt: skip
    lines = []
    for text, words, heads, relations in sentences:
        lines.append(f"# text = {text}")
        for number, (word, head, relation) in enumerate(zip(words, heads, relations, strict=True), 1):
            lines.append("\t".join([str(number), word, *"_____"[:4], str(head), relation, "_", "_"]))
        lines.append("")
    path = folder / "trees.conllu"
    path.write_text("\n".join(lines) + "\n")
    return path
