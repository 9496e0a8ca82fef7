"""One head on a few short texts, inside of a report: the model's attention to 1/255, and only what may be shown."""

from __future__ import annotations

import base64
import json
import re

import numpy as np
import pytest
import torch
from explore_runs import explored_run
from tiny_experiment import TEXTS

from attribution.explainer import Explainer
from attribution.model.inputs import Inputs
from pipeline.cli import main
from pipeline.report.build import render
from pipeline.runs import Run

DATA = re.compile(r'id="attention-data">(.*?)</script>')


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return Run(explored_run(tmp_path_factory.mktemp("explored")))


def data(page):
    found = DATA.search(page)
    return json.loads(found[1]) if found else None


def test_the_page_has_the_models_attention(run):
    found = data(render(run, "full", 30, 3))
    assert (found["layers"], found["heads"], len(found["texts"])) == (3, 4, 3)
    explainer = Explainer.from_pretrained(run.config["model"]["path"], device="cpu")
    for text, own in zip(TEXTS[:3], found["texts"], strict=True):
        given = explainer.tokenizer([text[0]], return_tensors="pt")
        wanted = torch.stack(explainer.adapter.attentions(Inputs.from_mapping(given)), 1)[0].numpy()
        packed = np.frombuffer(base64.b64decode(own["a"]), np.uint8).reshape(wanted.shape) / 255
        assert packed == pytest.approx(wanted, abs=0.51 / 255)
        assert "".join(own["t"][1:-1]).strip() == text[0]


def test_what_may_not_be_shown_is_not(run):
    assert data(render(run, "none", 30, 3)) is None
    assert data(render(run, "full", 30, 0)) is None
    assert len(data(render(run, "sample", 2, 5))["texts"]) == 2


def test_texts_that_are_long_or_do_not_fit_are_left_out(run, monkeypatch):
    monkeypatch.setattr("pipeline.report.attention.LONGEST", 6)
    assert [len(text["t"]) for text in data(render(run, "full", 30, 9))["texts"]] == [4]
    monkeypatch.setattr("pipeline.report.attention.LONGEST", 48)
    monkeypatch.setattr("pipeline.report.attention.BUDGET", 3 * 4 * (7**2 + 13**2))
    assert len(data(render(run, "full", 30, 9))["texts"]) == 2


def test_the_command_asks_for_it(run, capsys):
    assert main(["report", str(run.folder), "--attention", "2"]) == 0
    assert len(data((run.folder / "report.html").read_text())["texts"]) == 2
    assert main(["report", str(run.folder), "--attention", "-1"]) == 4
    assert "--attention -1" in capsys.readouterr().err
    assert main(["report", str(run.folder)]) == 0
    assert data((run.folder / "report.html").read_text()) is None
