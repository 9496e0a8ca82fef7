"""A document that needs nothing but itself."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files

from pipeline.report.html import Child, Safe, tag


def document(title: str, *body: Child, script: str = "") -> str:
    """A page in the style of all our pages; its policy lets `script` run and nothing else, and nothing be loaded."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; base-uri 'none'"
    head = [
        Safe('<meta charset="utf-8">'),
        Safe(f'<meta http-equiv="Content-Security-Policy" content="{policy}">'),
        Safe('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        tag("title", title),
        tag("style", Safe(asset("page.css"))),
    ]
    content = [*body, tag("script", Safe(script))] if script else body
    return f"<!doctype html>\n{tag('html', tag('head', head), tag('body', content), lang='en')}\n"


def asset(name: str) -> str:
    """A style or script of ours."""
    return (files("pipeline.report") / "assets" / name).read_text("utf-8")
