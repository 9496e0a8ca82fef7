"""Who may ask: hosts by name, pages of our own alone, and on anything but loopback whoever has the token."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

ANYWHERE = ("0.0.0.0", "::", "")
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server that is bound to `host`."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def allowed_hosts(host: str, port: int) -> frozenset[str] | None:
    """Values of the Host header that belong to a server; None: any, where it is bound to all addresses."""
    if host in ANYWHERE:
        return None
    names = {"127.0.0.1", "localhost", "::1", host} if is_loopback(host) else {host}
    return frozenset(f"{netloc(name)}:{port}" for name in names)


def cookie_of(port: int) -> str:
    """The name of the cookie of a server on this port."""
    return f"headlight-{port}"


def netloc(host: str) -> str:
    """A host as it stands in an address."""
    return f"[{host}]" if ":" in host else host


@dataclass
class Guard:
    """Lets an application see only the requests it may answer, and says how its answers may be used.

    hosts: against names that somebody else points here (DNS rebinding). token: what a browser is let in by, once; a
    cookie of this site keeps it, whose name has the port, since browsers share cookies between those of one host.
    """

    app: ASGIApp
    hosts: frozenset[str] | None
    token: str | None
    cookie: str = "headlight"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        await (self._refusal(scope) or self.app)(scope, receive, guarded)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        if self.hosts is not None and headers.get("host", "").lower() not in self.hosts:
            return refusal(421, "this server is not known by that name")
        if scope["path"].startswith("/api/") and not _own_page(headers):
            return refusal(403, "requests come from the explorer's own page alone")
        if self.token is None or self._knows(headers):
            return None
        given = QueryParams(scope["query_string"]).get("token", "")
        if scope["method"] == "GET" and scope["path"] == "/" and _same(given, self.token):
            return _admitted(self.cookie, self.token)
        return refusal(401, "the address with the token, which `headlight explore` printed, opens this page")

    def _knows(self, headers: Headers) -> bool:
        assert self.token is not None
        cookies: SimpleCookie = SimpleCookie()
        try:
            cookies.load(headers.get("cookie", ""))
        except CookieError:
            return False
        return self.cookie in cookies and _same(cookies[self.cookie].value, self.token)


def refusal(status: int, why: str) -> JSONResponse:
    """An answer that says why there is none."""
    return JSONResponse({"error": why}, status)


def _admitted(cookie: str, token: str) -> Response:
    """The page without the token in its address, which others could read off the screen or a history."""
    response = RedirectResponse("/", 303)
    response.set_cookie(cookie, token, httponly=True, samesite="strict", path="/")
    return response


def _own_page(headers: Mapping[str, str]) -> bool:
    """Whether a browser, if it is one, says that the request comes from a page of this very server."""
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = headers.get("origin")
    return origin is None or urlsplit(origin).netloc.lower() == headers.get("host", "").lower()


def _same(given: str, token: str) -> bool:
    return hmac.compare_digest(given.encode(), token.encode())
