"""Posting a verdict. Its address may carry a secret, so no message shows more of it than the host."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from urllib.parse import urlsplit

TIMEOUT_S = 10.0


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """The verdict goes where it was told to go, and nowhere else."""

    def redirect_request(self, *_: object) -> None:
        return None


def host_of(url: str) -> str | None:
    """The host of an http or https address; None where it is no such address."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    return parts.hostname if parts.scheme in ("http", "https") else None


def post(url: str, document: str, timeout: float = TIMEOUT_S) -> str | None:
    """POST a JSON document; what went wrong in one sentence, or None."""
    host = host_of(url)
    if host is None:
        return "the webhook is not an http or https address; the verdict stands"
    request = urllib.request.Request(url, document.encode(), {"Content-Type": "application/json"}, method="POST")
    try:
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=timeout):
            return None
    except urllib.error.HTTPError as error:
        return f"the webhook at {host} answered HTTP {error.code}; the verdict stands"
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or type(error).__name__
        return f"the webhook at {host} could not be reached ({reason}); the verdict stands"
