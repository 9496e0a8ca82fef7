"""Methods of other packages come in by entry points of the group `headlight.methods`."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest
from plugin_package import write_package

from attribution import METHODS, InputError
from attribution.methods.plugins import GROUP, ORIGINS, load_plugins

MODULE = '''
import torch
from attribution.methods import Capture, Need, register


@register("length", needs=Need.NOTHING, source="a test", class_blind=True)
def length(capture: Capture):
    """How long each word is."""
    return torch.ones_like(capture.input_ids, dtype=torch.float32)


def clash():
    register("gradcam", needs=Need.NOTHING, source="a test")(length)


def broken():
    raise RuntimeError("no licence")
'''


@pytest.fixture
def package(tmp_path, monkeypatch):
    write_package(tmp_path, "lengths", MODULE, GROUP, "length")
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    METHODS.pop("length", None)
    ORIGINS.clear()
    sys.modules.pop("lengths", None)


def test_an_installed_package_adds_its_methods_by_itself(package):
    code = (
        f"import sys; sys.path.insert(0, {str(package)!r}); import attribution.methods.plugins as p; "
        "from attribution import METHODS; print(METHODS['length'].summary, p.ORIGINS)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "How long each word is. {'length': 'lengths 1.2'}\n"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("lengths:clash", "there is a method gradcam already"),
        ("lengths:broken", "cannot be loaded: no licence"),
        ("no_such_module", "cannot be loaded: No module named 'no_such_module'"),
    ],
)
def test_a_plugin_that_is_wrong_is_named_and_changes_nothing(package, value, words):
    known = dict(METHODS)
    with pytest.raises(InputError, match=words):
        load_plugins([EntryPoint("mine", value, GROUP)])
    assert known == METHODS
