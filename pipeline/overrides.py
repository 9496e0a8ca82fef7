"""Overrides of the command line: read one by one and put into a configuration, so that every bad one is named."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from typing import Any, NamedTuple, cast

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, Node, OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException


class Problem(NamedTuple):
    """Something wrong with a configuration: the key it is about, and a sentence that begins with the key."""

    key: str
    text: str

    def line(self) -> str:
        """The line shown to the user."""
        return f"conf error: {self.text}"


KINDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "text",
    "list": "a list, which is written [a,b]",
    "dict": "a group of keys, which are set one by one",
}


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """Sentence that names the closest choice, or all of them where none is close and they are few."""
    choices = list(choices)
    close = get_close_matches(word, choices, n=1, cutoff=0.6)
    if close:
        return f" Did you mean {close[0]}?"
    return f" Choices: {', '.join(choices)}." if 0 < len(choices) <= 25 else ""


def read_override(line: str) -> Override | Problem:
    """One override of Hydra's grammar; sweeps are refused."""
    override = read_sweep(line)
    if not isinstance(override, Problem) and override.is_sweep_override():
        key = override.key_or_group
        return Problem(
            key, f"{line} has several values: -m runs each of them, without it a list is written {key}=[a,b]."
        )
    return override


def read_sweep(line: str) -> Override | Problem:
    """One override of Hydra's grammar, which may have several values."""
    parser = OverridesParser.create()
    try:
        return parser.parse_override(_quote_calls(line, parser.functions.definitions))
    except HydraException as error:
        return Problem(line, f"{line} is not an override: {_first_line(error)}. Write key=value.")


def _quote_calls(line: str, functions: Iterable[str]) -> str:
    """Take `head_mask=random(0)` as text: it looks like a call of a function, which Hydra's grammar does not know."""
    call = re.fullmatch(r"([^=]+)=((\w+)\([^'\"]*\))", line)
    return f'{call[1]}="{call[2]}"' if call and call[3] not in functions else line


def nodes(tree: DictConfig, prefix: str = "") -> Iterator[tuple[str, Node]]:
    """Every key, branch or leaf, by its dotted name and with its node, which is not resolved."""
    for key in map(str, tree):
        name = f"{prefix}{key}"
        node = _child(tree, key)
        yield name, node
        if isinstance(node, DictConfig) and not node._is_none() and not node._is_interpolation():
            yield from nodes(node, f"{name}.")


def _child(parent: DictConfig, name: str) -> Node:
    return cast(Node, parent._get_node(name))


def _parent(tree: DictConfig, key: str) -> tuple[DictConfig, str]:
    *path, name = key.split(".")
    node = tree
    for part in path:
        node = cast(DictConfig, _child(node, part))
    return node, name


def apply_override(tree: DictConfig, override: Override) -> Problem | None:
    """Change, add or delete one value of `tree`. Mappings such as `attribution` take new keys, with or without `+`."""
    key = override.key_or_group
    deleting = override.is_delete()
    problem = _unknown_key(tree, key, deleting)
    if problem:
        return problem
    if deleting:
        return _delete(tree, key)
    return _set(tree, key, override.value())


def _unknown_key(tree: DictConfig, key: str, deleting: bool) -> Problem | None:
    node: Any = tree
    for part in key.split("."):
        if not isinstance(node, DictConfig) or (part not in node and (deleting or not _is_mapping(node))):
            return Problem(
                key, f"{key} is not a configuration key.{did_you_mean(key, (name for name, _ in nodes(tree)))}"
            )
        if part not in node:
            return None
        node = _child(node, part)
    return None


def _is_mapping(node: DictConfig) -> bool:
    return not dataclasses.is_dataclass(OmegaConf.get_type(node))


def _delete(tree: DictConfig, key: str) -> Problem | None:
    parent, name = _parent(tree, key)
    if not _is_mapping(parent):
        return Problem(key, f"{key} cannot be removed; {key}=null leaves it empty where it may be.")
    del parent[name]
    return None


def _set(tree: DictConfig, key: str, value: Any) -> Problem | None:
    try:
        OmegaConf.update(tree, key, value, merge=True)
    except ConfigKeyError as error:
        return Problem(key, f"{key}={value}: {_first_line(error)}.")
    except (OmegaConfBaseException, ValueError, TypeError):
        return Problem(key, f"{key}={value} is not {_expected(tree, key)}.")
    spell_out(tree)
    return None


def _expected(tree: DictConfig, key: str) -> str:
    parent, name = _parent(tree, key)
    if _is_mapping(parent):
        return KINDS[parent._metadata.element_type.__name__]
    node = _child(parent, name)
    if isinstance(node, ListConfig):
        return KINDS["list"]
    return KINDS["dict" if isinstance(node, DictConfig) else node._metadata.ref_type.__name__]


def open_mappings(tree: DictConfig) -> None:
    """Let mappings take new keys; Hydra closes them together with everything else."""
    OmegaConf.set_struct(tree, True)
    for _, node in list(nodes(tree)):
        if isinstance(node, DictConfig) and _is_mapping(node):
            OmegaConf.set_struct(node, False)


def spell_out(tree: DictConfig) -> None:
    """Turn the shorthand `label: method` into `label: {method: method}`, so that parameters can be added to it."""
    for methods in (tree.attribution, tree.heads.importance):
        for label in list(methods):
            if isinstance(methods[label], str):
                methods[label] = {"method": methods[label]}


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0].rstrip(".")
