"""HTML in which every string is escaped unless it was built here."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Iterable, Sequence
from typing import Any


class Safe(str):
    """Markup; everything else that goes into a page is text."""

    __slots__ = ()


Child = str | None | Iterable["Child"]  # markup or text, nested as it comes


def tag(name: str, *children: Child, **attributes: Any) -> Safe:
    """An element. `class_` is class, `aria_label` is aria-label; an attribute that is None or False is left out."""
    written = "".join(_attribute(key, value) for key, value in attributes.items() if value not in (None, False))
    return Safe(f"<{name}{written}>{join(*children)}</{name}>")


def join(*children: Child) -> Safe:
    """Children side by side, text escaped."""
    return Safe("".join(_escaped(child) for child in children))


def plain_table(names: Sequence[str], rows: Iterable[Sequence[Child]]) -> Safe:
    """A table that scrolls where it is too wide; what stands first in a row is its heading."""
    head = tag("tr", [tag("th", name, scope="col") for name in names])
    body = [tag("tr", tag("th", first, scope="row"), [tag("td", cell) for cell in rest]) for first, *rest in rows]
    return tag("div", tag("table", tag("thead", head), tag("tbody", body), class_="plain"), class_="scroll")


def data_script(data: Any, **attributes: Any) -> Safe:
    """Data as JSON that cannot end its script element."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return tag("script", Safe(text.replace("<", "\\u003c")), type="application/json", **attributes)


def number(value: float | None, digits: int = 3) -> str:
    """A number with a real minus sign; a dash where undefined."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:.{digits}f}".replace("-", "−")


def signed(value: float | None, digits: int = 3) -> str:
    """A difference, always with its sign."""
    written = number(value, digits)
    return written if written.startswith(("−", "–")) else f"+{written}"


def interval(low: float, high: float, digits: int = 3) -> str:
    """[low, high], empty where undefined."""
    return f"[{number(low, digits)}, {number(high, digits)}]" if math.isfinite(low + high) else ""


def percents(low: float, high: float) -> str:
    """The same in percent."""
    return f"[{low:.1%}, {high:.1%}]".replace("-", "−") if math.isfinite(low + high) else ""


def _escaped(child: Child) -> str:
    if isinstance(child, Safe):
        return child
    if isinstance(child, str):
        return html.escape(child, quote=True)
    return "".join(_escaped(each) for each in child or ())


def _attribute(key: str, value: Any) -> str:
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{html.escape(str(value), quote=True)}"'
