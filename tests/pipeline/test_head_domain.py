"""What a report says of the trees that heads were found on, and of the texts that are explained."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pytest

from pipeline.compose import compose_config
from pipeline.config import Config
from pipeline.head_domain import given_domain, head_domain, tree_language
from pipeline.schemas import SCHEMA_VERSION
from pipeline.validate import validate

SENTENCE = "# text = {text}\n1\tDogs\tdog\tNOUN\t_\t_\t2\tnsubj\t_\t_\n2\tbark\tbark\tVERB\t_\t_\t0\troot\t_\t_\n\n"


@pytest.fixture
def trees(tmp_path: Path) -> Path:
    path = tmp_path / "trees.conllu"
    path.write_text(SENTENCE.format(text="Dogs bark"))
    return path


def config(trees: Path, *overrides: str) -> Config:
    return compose_config(["heads=treebank", f"heads.select={trees}", *overrides])


def prepared(*texts: str) -> SimpleNamespace:
    return SimpleNamespace(whole=pa.table({"text": list(texts), "text_b": pa.nulls(len(texts), pa.string())}))


def test_the_same_language_and_words_are_no_reason_to_doubt(trees: Path) -> None:
    told = head_domain(config(trees, "heads.language=en", "dataset.language=en-GB"), prepared("dogs bark loudly"))
    assert told == "heads were selected on trees.conllu, which has 67% of the words of the explained texts"


def test_another_language_is_named(trees: Path) -> None:
    told = head_domain(config(trees, "heads.language=en", "dataset.language=de"), prepared("dogs bark"))
    assert "; the trees are in language en, the texts in de: heads may do something else" in told


def test_other_words_in_the_same_language_are_another_domain(trees: Path) -> None:
    told = head_domain(config(trees, "heads.language=en", "dataset.language=en"), prepared("cats sleep all day"))
    assert "which has 0% of the words" in told
    assert "; that is little: where language or domain differ" in told


def test_what_is_not_declared_is_not_known(trees: Path) -> None:
    told = head_domain(config(trees, "dataset.language=null"), prepared("dogs bark"))
    assert told.endswith("is not known (heads.language and dataset.language not given)")
    told = head_domain(config(trees, "heads.language=en", "dataset.language=null"), prepared("dogs bark"))
    assert told.endswith("is not known (dataset.language not given)")


@pytest.mark.parametrize(
    ("name", "declared", "language"),
    [
        ("en_ewt-ud-dev.conllu", None, "en"),
        ("pcm_nsc-ud-test.conllu", None, "pcm"),
        ("en_ewt-ud-dev.conllu", "de", "de"),
        ("my_trees.conllu", None, None),
    ],
)
def test_treebanks_of_universal_dependencies_tell_their_language(
    trees: Path, name: str, declared: str | None, language: str | None
) -> None:
    overrides = [] if declared is None else [f"heads.language={declared}"]
    assert tree_language(config(trees.with_name(name), *overrides).heads) == language
    assert tree_language(compose_config(["heads=grammar"]).heads) == "en"


@pytest.mark.parametrize("key", ["heads.language", "dataset.language"])
def test_languages_are_codes(trees: Path, key: str) -> None:
    problems = validate(config(trees, f"{key}=English"))
    assert f"conf error: {key}=English is not the code of a language, such as en or pt-BR." in problems


@pytest.mark.parametrize("dataset", ["sst2", "squad", "eraser_movies", "sst_trees", "reviews", "imdb"])
def test_known_data_sets_declare_their_language(dataset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADLIGHT_DATA", "/data")
    assert compose_config([f"dataset={dataset}", "heads=ud_ewt"]).dataset.language == "en"
    assert tree_language(compose_config(["heads=ud_ewt"]).heads) == "en"


def test_heads_of_an_earlier_run_come_with_what_that_said(tmp_path: Path) -> None:
    folder = tmp_path / "earlier"
    folder.mkdir()
    own = compose_config(["heads=run", f"heads.run={folder / 'heads.parquet'}"])
    assert (
        given_domain(own) == f"heads are those of {own.heads.run}, which does not say on what text they were selected"
    )
    said = "heads were selected on trees.conllu, which has 9% of the words of the explained texts"
    (folder / "manifest.json").write_text(
        json.dumps({"schema_version": SCHEMA_VERSION, "dataset": {"notes": ["something else", said]}})
    )
    assert given_domain(own) == f'heads are those of {own.heads.run}: "{said}"'
    assert given_domain(compose_config(["heads=grammar"])) is None
