"""Keeps secrets out of what is written and shown: credentials in addresses, and values of secret environment variables.

A variable is secret by its name. Short values are left alone: they would be found in every other word.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "***"
_SECRET = re.compile(r"PASSWORD|PASSWD|WEBHOOK|(^|_)(TOKEN|SECRET|CREDENTIALS?|(API|ACCESS|PRIVATE)_KEY)(_|$)", re.I)
_PLACE = re.compile(r"_(PATH|FILE|DIR|URI|URL)$", re.I)  # where a secret is, not what it is
_SHORTEST = 8
_CREDENTIALS = re.compile(r"(://)[^/\s?#]*@")
_DATABASE = re.compile(r"\b((?:postgres|mysql|mariadb|mssql|oracle)[\w+]*://)\S*@")  # a password may have any character
_PARAMETER = re.compile(r"([?&][\w.-]*(?:passw|pwd|token|secret|key|signature|sig)[\w.-]*=)[^&#\s]+", re.I)


def is_secret(name: str) -> bool:
    """Whether an environment variable of this name holds a secret."""
    return bool(_SECRET.search(name)) and not _PLACE.search(name)


def without_credentials(text: str) -> str:
    """Addresses without user and password, and without the values of parameters that hold one."""
    return _hidden(text, r"\1")


def _hidden(text: str, instead: str) -> str:
    return _PARAMETER.sub(rf"\1{HIDDEN}", _CREDENTIALS.sub(instead, _DATABASE.sub(instead, text)))


def secret_in(text: str) -> str | None:
    """The secret variable whose value stands in a text, if there is one."""
    named = (name for name, value in os.environ.items() if len(value) >= _SHORTEST and value in text)
    return next(filter(is_secret, named), None)


def redacted(text: str) -> str:
    """Text in which every secret is replaced by stars."""
    while name := secret_in(text):
        text = text.replace(os.environ[name], HIDDEN)
    return _hidden(text, rf"\1{HIDDEN}@")


def redacted_tree(tree: Any) -> Any:
    """The same for every text in nested mappings and lists; keys stay as they are."""
    if isinstance(tree, Mapping):
        return {key: redacted_tree(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [redacted_tree(value) for value in tree]
    return redacted(tree) if isinstance(tree, str) else tree
