from __future__ import annotations

import hashlib
import json
import math
from collections import OrderedDict
from dataclasses import dataclass
from enum import Enum, StrEnum
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from pipeline.keys import canonical_json, digest, file_digest, source_digest, versions


@dataclass
class Point:
    x: float
    labels: tuple[str, ...]


class Colour(Enum):
    RED = 1


class Kind(StrEnum):
    PLAIN = "plain"


@pytest.mark.parametrize(
    ("obj", "text"),
    [
        (Point(0.5, ("a", "b")), '{"labels":["a","b"],"x":0.5}'),
        (Path("a") / "b", '"a/b"'),
        ((1, 2), "[1,2]"),
        (np.float32(0.1), "0.10000000149011612"),
        (np.int64(3), "3"),
        (np.bool_(True), "true"),
        (torch.tensor(7), "7"),
        (torch.tensor(0.25, dtype=torch.float64), "0.25"),
        (Colour.RED, "1"),
        (Kind.PLAIN, '"plain"'),
        ({"b": None, "a": {2: "two"}}, '{"a":{"2":"two"},"b":null}'),
        (OrderedDict(b=1, a=2), '{"a":2,"b":1}'),
        (OmegaConf.create({"b": [1, 2], "a": "${b}"}), '{"a":[1,2],"b":[1,2]}'),
        ("é\ud800", '"\\u00e9\\ud800"'),
    ],
)
def test_canonical_forms(obj, text):
    assert canonical_json(obj) == text
    assert digest(obj) == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize(
    "obj", [{1, 2}, b"bytes", object(), np.zeros(2), torch.zeros(2), Point, {(1, 2): 3}, {True: 1}, {1.5: 1}, len]
)
def test_unknown_types_are_refused(obj):
    with pytest.raises(TypeError, match="no canonical form"):
        canonical_json({"nested": [obj]})


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, np.float32("nan"), torch.tensor(math.inf)])
def test_numbers_that_are_not_finite_are_refused(number):
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical_json([number])


def test_keys_that_collide_are_refused():
    with pytest.raises(ValueError, match="differ only in type"):
        canonical_json({1: "a", "1": "b"})


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(plain)
def test_canonical_json_is_exact(obj):
    assert json.loads(canonical_json(obj)) == obj


@settings(max_examples=30)
@given(st.dictionaries(st.text(), plain, max_size=6), st.randoms())
def test_order_of_keys_does_not_matter(mapping, random):
    items = list(mapping.items())
    random.shuffle(items)
    assert canonical_json(dict(items)) == canonical_json(mapping)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_neighbouring_floats_differ(number):
    neighbour = math.nextafter(number, math.inf)
    assert math.isinf(neighbour) or digest(neighbour) != digest(number)


def test_an_integer_is_not_a_float():
    assert digest(1) != digest(1.0)


def test_file_digest(tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(b"abc")
    assert file_digest(path) == hashlib.sha256(b"abc").hexdigest()


def test_versions_name_what_results_depend_on():
    assert set(versions()) == {"torch", "transformers", "numpy", "pyarrow", "headlight"}
    assert versions()["torch"] == torch.__version__


TOY = {
    "__init__.py": "from {name}.far import everything",
    "main.py": "import os\nfrom {name} import near\nfrom {name}.inner.deep import value\n",
    "near.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import {name}.typing_only\nx = 1\n",
    "far.py": "everything = 1\n",
    "typing_only.py": "import {name}.far\n",
    "inner/__init__.py": "",
    "inner/deep.py": "def value():\n    from . import lazy\n    return lazy\n",
    "inner/lazy.py": "from ..main import near  # a cycle\n",
}


@pytest.fixture
def toy(tmp_path, monkeypatch, request):
    name = f"toy_{abs(hash(request.node.name))}"
    for path, text in TOY.items():
        file = tmp_path / name / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text.format(name=name))
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path / name


def toy_digest(toy, module="main"):
    return source_digest([f"{toy.name}.{module}"], packages=(toy.name,))


@pytest.mark.parametrize("changed", ["main.py", "near.py", "inner/deep.py", "inner/lazy.py"])
def test_source_digest_follows_imports(toy, changed):
    before = toy_digest(toy)
    with (toy / changed).open("a") as file:
        file.write("more = 1\n")
    assert toy_digest(toy) != before


@pytest.mark.parametrize("changed", ["far.py", "typing_only.py", "__init__.py", "inner/__init__.py"])
def test_source_digest_ignores_what_is_not_imported(toy, changed):
    before = toy_digest(toy)
    with (toy / changed).open("a") as file:
        file.write("more = 1\n")
    assert toy_digest(toy) == before


def test_source_digest_of_a_package_follows_its_init(toy):
    before = source_digest([toy.name], packages=(toy.name,))
    (toy / "far.py").write_text("everything = 2\n")
    assert source_digest([toy.name], packages=(toy.name,)) != before


def test_source_digest_ignores_comments_docstrings_and_formatting(toy):
    before = toy_digest(toy, "far")
    (toy / "far.py").write_text('"""Everything."""\n\n# all of it\neverything =   1\n')
    assert toy_digest(toy, "far") == before


def test_source_digest_of_an_unknown_module_is_refused():
    with pytest.raises(ModuleNotFoundError, match=r"pipeline\.nonesuch"):
        source_digest(["pipeline.nonesuch"])


def test_source_digest_of_this_project_reads_without_importing():
    assert source_digest(["pipeline.keys"]) != source_digest(["pipeline.keys", "attribution.errors"])
