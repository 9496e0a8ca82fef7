"""One explained text as a coloured line, for a terminal or as HTML.

Orange supports the target, blue speaks against it; both hues stay apart for colour-blind readers, and the sign is
also underlined (solid for, dotted against), so that colour never carries it alone. Texts are shown, never interpreted.
"""

from __future__ import annotations

import html
import math
import os
import re
from collections.abc import Sequence

SUPPORT, OPPOSE = (213, 94, 0), (0, 114, 178)  # Okabe & Ito 2008: vermillion and blue
_PALE = 0.04  # shares of the strongest score below this are left uncoloured
_ORANGES, _BLUES = (230, 223, 216, 215, 208), (195, 153, 117, 75, 39)  # xterm-256, pale to strong
_CONTINUATION, _WORD_START = "##", ("Ġ", "▁")  # WordPiece; byte-level BPE and SentencePiece
# C0 and C1 controls would drive the terminal, bidirectional marks would reorder the line
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark }}
body {{ font: 16px/1.6 system-ui, sans-serif; max-width: 48rem; margin: 3rem auto; padding: 0 1rem }}
h1 {{ font-size: 1.3rem; margin: 0 }} p {{ margin: .3rem 0 1.5rem; opacity: .75 }}
.line {{ font-size: 1.2rem; line-height: 2.1 }} details {{ margin-top: 2rem }}
td, th {{ text-align: left; padding: .1rem 1.5rem .1rem 0 }} td + td {{ font-variant-numeric: tabular-nums }}
* {{ -webkit-print-color-adjust: exact; print-color-adjust: exact }}
</style></head><body>
<h1>{title}</h1><p>{subtitle}</p>
<div class="line">{line}</div>
<details><summary>Scores</summary><table><tr><th>token</th><th>score</th></tr>{rows}</table></details>
</body></html>
"""


def written(tokens: Sequence[str], offsets: Sequence[tuple[int, int]], texts: Sequence[str | None]) -> list[str]:
    """Tokens as their text spells them, each with the white space before it.

    `texts[i]` is the text that token i was cut from, None for special tokens. Byte pieces of one character share its
    offsets: the first shows the character, the others a middle dot.
    """
    pieces, previous, end = [], None, 0
    for token, (start, stop), text in zip(tokens, offsets, texts, strict=True):
        if text is None:
            pieces.append(f" {token}")
        elif text is not previous:
            pieces.append(f" {text[start:stop].lstrip()}")
        else:
            pieces.append(text[min(start, end) if start <= end else end : stop] if stop > end else "·")
        previous, end = text, stop
    return pieces


def spaced(tokens: Sequence[str]) -> list[str]:
    """Tokens with a space before each word: sub-word markers (##, Ġ, ▁) are resolved; written ones stay as they are."""
    if any(token[:1].isspace() for token in tokens):
        return list(tokens)
    if any(token.startswith(_WORD_START) for token in tokens):
        return [f" {token[1:]}" if token.startswith(_WORD_START) else token for token in tokens]
    return [token[2:] if token.startswith(_CONTINUATION) and len(token) > 2 else f" {token}" for token in tokens]


def shares(scores: Sequence[float]) -> list[float]:
    """Scores over the largest absolute one, in [-1, 1]; 0 where undefined."""
    largest = max((abs(score) for score in scores if math.isfinite(score)), default=0.0) or 1.0
    return [score / largest if math.isfinite(score) else 0.0 for score in scores]


def render_ansi(tokens: Sequence[str], scores: Sequence[float], *, color: bool = True) -> str:
    """One line for a terminal; without colour, or where NO_COLOR is set, strong tokens carry their score instead."""
    paint = _painted if color and not os.environ.get("NO_COLOR") else _annotated
    pieces = [printable(piece) for piece in spaced(tokens)]
    line = [paint(piece, score, share) for piece, score, share in zip(pieces, scores, shares(scores), strict=True)]
    return "".join(line).strip()


def html_fragment(tokens: Sequence[str], scores: Sequence[float]) -> str:
    """The same line as HTML spans with inline styles; a token's score shows on hover."""
    rows = zip(spaced(tokens), scores, shares(scores), strict=True)
    return "".join(_span(piece, score, share) for piece, score, share in rows).strip()


def render_html(tokens: Sequence[str], scores: Sequence[float], *, title: str, subtitle: str = "") -> str:
    """A complete page, needing nothing else, with the line and a table of its scores."""
    cells = (
        f"<tr><td>{html.escape(token)}</td><td>{score:+.4g}</td></tr>"
        for token, score in zip(tokens, scores, strict=True)
    )
    line = html_fragment(tokens, scores)
    return _PAGE.format(title=html.escape(title), subtitle=html.escape(subtitle), line=line, rows="".join(cells))


def printable(text: str, keep: str = "") -> str:
    """Text that cannot drive a terminal: white space becomes a space, any other control character its code."""
    return _UNPRINTABLE.sub(lambda match: match[0] if match[0] in keep else _visible(match[0]), text)


def _visible(character: str) -> str:
    return " " if character in "\t\n\r" else f"\\x{ord(character):02x}"


def _split(piece: str) -> tuple[str, str]:
    word = piece.lstrip()
    return piece[: len(piece) - len(word)], word


def _annotated(piece: str, score: float, share: float) -> str:
    return f"{piece}[{score:+.2g}]" if abs(share) >= 0.1 else piece


def _painted(piece: str, score: float, share: float) -> str:
    gap, word = _split(piece)
    if abs(share) < _PALE:
        return piece
    sign = "" if share > 0 else "4;"
    return f"{gap}\x1b[{sign}30;48;{_background(share)}m{word}\x1b[0m"


def _background(share: float) -> str:
    """Background colour of a share, as SGR parameters; black text stays readable on all of them."""
    strength = abs(share)
    if os.environ.get("COLORTERM") not in ("truecolor", "24bit"):
        ramp = _ORANGES if share > 0 else _BLUES
        return f"5;{ramp[min(int(strength * len(ramp)), len(ramp) - 1)]}"
    hue, weight = (SUPPORT if share > 0 else OPPOSE), 0.15 + 0.6 * strength
    return "2;" + ";".join(str(round(255 + (channel - 255) * weight)) for channel in hue)


def _span(piece: str, score: float, share: float) -> str:
    gap, word = _split(piece)
    red, green, blue = SUPPORT if share > 0 else OPPOSE
    line = "solid" if share > 0 else "dotted"
    style = f"background:rgba({red},{green},{blue},{0.62 * abs(share):.2f});border-radius:3px;padding:1px 1px"
    if abs(share) >= _PALE:
        style += f";border-bottom:2px {line} rgb({red},{green},{blue})"
    return f'{gap}<span title="{score:+.3g}" style="{style}">{html.escape(word)}</span>'
