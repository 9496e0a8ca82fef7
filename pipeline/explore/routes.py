"""The explorer as a web application: addresses, and which function answers each."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from importlib.resources import files
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from attribution.errors import HeadlightError, InputError
from attribution.heads.roles import DIRECTIONS
from attribution.patterns.schema import EDGES, MODES
from attribution.patterns.tokens import SEGMENTS
from attribution.patterns.vocabulary import CLASSES
from pipeline.errors import StorageError
from pipeline.explore.asked import Change, Changes, Decision, Extremes, Measure, Save, TooLarge, Where, asked, body_of
from pipeline.explore.computing import LEVELS, Desk
from pipeline.explore.heads import metrics_of
from pipeline.explore.passes import Step
from pipeline.explore.saving import Notebook, Occupied
from pipeline.explore.security import refusal
from pipeline.explore.session import Session, half
from pipeline.report.page import asset as page_asset

Handler = Callable[[Request], Awaitable[Response]]
BASE = "base.css"
_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript"}
_STATUS: tuple[tuple[type[Exception], int], ...] = (  # the first that fits
    (TooLarge, 413), (Occupied, 409), (InputError, 400), (StorageError, 507), (HeadlightError, 422),
)  # fmt: skip


def application(desk: Desk, notebook: Notebook) -> Starlette:
    """All of it but the guard."""
    answers: dict[str, Callable[[Any], Any]] = {
        "/api/where": lambda value: desk.where(asked(Where, value)),
        "/api/extremes": lambda value: desk.extremes(asked(Extremes, value)),
        "/api/change": lambda value: desk.workshop.compare(asked(Change, value)),
        "/api/save": lambda value: notebook.save(asked(Save, value)),
        "/api/decide": lambda value: notebook.decide(asked(Decision, value)),
    }
    streams: dict[str, Callable[[Any], Iterator[Step]]] = {
        "/api/survey": lambda value: desk.look(),
        "/api/measure": lambda value: desk.measure(asked(Measure, value)),
        "/api/sample": lambda value: desk.workshop.sample(asked(Changes, value)),
    }
    reads: dict[str, Callable[[Request], Any]] = {
        "/api/run": lambda request: about(desk, notebook),
        "/api/patterns": lambda request: {"there": notebook.there(), "decisions": notebook.decisions()},
        "/api/documents/{number:int}": lambda request: desk.session.document(request.path_params["number"]),
        "/api/maps": lambda request: desk.maps(),
        "/api/documents/{number:int}/maps": lambda request: desk.maps_of_text(request.path_params["number"]),
        "/api/attention": partial(_attention, desk),
    }
    routes = [Route("/", _page), Route("/assets/{name}", _asset)]
    routes += [Route(path, _reading(each), methods=["GET"]) for path, each in reads.items()]
    routes += [Route(path, _answering(each), methods=["POST"]) for path, each in answers.items()]
    routes += [Route(path, _streaming(each), methods=["POST"]) for path, each in streams.items()]
    handlers: dict[Any, Any] = {HTTPException: _refused, Exception: _failed}
    return Starlette(routes=routes, exception_handlers=handlers)


def about(desk: Desk, notebook: Notebook) -> dict[str, Any]:
    """What the page has to know of the run before anything is computed."""
    session, manifest = desk.session, desk.session.run.manifest
    adapter, model = session.explainer.adapter, manifest["model"]
    return {
        "name": str(manifest.get("name")), "model": str(model["name"]), **_data(session),
        "layers": adapter.n_layers, "heads": adapter.n_heads, "task": adapter.task, "causal": adapter.causal,
        "labels": {str(key): str(name) for key, name in (model.get("labels") or {}).items()},
        "texts": session.titles(), "metrics": metrics_of(session.run, session.shape),
        "methods": list(desk.workshop.methods), "save": str(notebook.path),
        "classes": CLASSES, "segments": SEGMENTS, "modes": MODES, "edges": EDGES,
        "relations": session.relations, "directions": DIRECTIONS,
    }  # fmt: skip


def _data(session: Session) -> dict[str, Any]:
    """What the texts are, and of how many."""
    if session.trees is not None:
        return {"data": session.trees.name, "of": None}
    known = session.run.manifest.get("dataset") or {}
    return {"data": str(known.get("name")), "of": known.get("n")}


def _attention(desk: Desk, request: Request) -> bytes:
    query = request.query_params
    level = query.get("level", LEVELS[0])
    if level not in LEVELS:
        raise InputError(f"level={level} is not known; choose {', '.join(LEVELS)}.")
    found = desk.attention(
        *(_number(query, name) for name in ("document", "layer", "head")),
        level=level, specials=query.get("specials") != "hidden", renormalise=query.get("renormalise") == "yes",
    )  # fmt: skip
    return half(found)


def _number(query: Any, name: str) -> int:
    text = query.get(name, "")
    if not text.isascii() or not text.isdecimal() or len(text) > 9:
        raise InputError(f"{name}={text[:20]!r} must be a whole number from 0 on.")
    return int(text)


def _reading(function: Callable[[Request], Any]) -> Handler:
    async def handle(request: Request) -> Response:
        return await _answered(partial(function, request))

    return handle


def _answering(function: Callable[[Any], Any]) -> Handler:
    async def handle(request: Request) -> Response:
        try:
            value = await body_of(request)
        except InputError as error:
            return told(error)
        return await _answered(partial(function, value))

    return handle


def _streaming(function: Callable[[Any], Iterator[Step]]) -> Handler:
    """Lines of JSON: {done, total} after each pass, with {result} in the last one, or {error}."""

    async def handle(request: Request) -> Response:
        try:
            value = await body_of(request)
            steps = await run_in_threadpool(function, value)
            first = await run_in_threadpool(next, steps)
        except HeadlightError as error:
            return told(error)
        return StreamingResponse(_lines(first, steps), media_type="application/x-ndjson")

    return handle


def _lines(first: Step, rest: Iterator[Step]) -> Iterator[str]:
    try:
        yield _line(first)
        for step in rest:
            yield _line(step)
    except HeadlightError as error:
        yield json.dumps({"error": _one_line(error)}) + "\n"


def _line(step: Step) -> str:
    told_so_far = {"done": step.done, "total": step.total}
    return json.dumps(told_so_far if step.result is None else {**told_so_far, "result": step.result}) + "\n"


async def _answered(function: Callable[[], Any]) -> Response:
    try:
        found = await run_in_threadpool(function)
    except (HeadlightError, StorageError) as error:
        return told(error)
    if isinstance(found, bytes):
        return Response(found, media_type="application/octet-stream")
    return JSONResponse({} if found is None else found)


def told(error: Exception) -> JSONResponse:
    """An error of ours as one line."""
    return refusal(next(status for kind, status in _STATUS if isinstance(error, kind)), _one_line(error))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).removeprefix("conf error: ").split())


async def _page(_request: Request) -> Response:
    return _file("page.html")


async def _asset(request: Request) -> Response:
    name = request.path_params["name"]
    return _file(name) if name in assets() else refusal(404, "there is no such file")


def assets() -> list[str]:
    """What the page is made of; its base is the style of all our pages."""
    return [BASE, *sorted(each.name for each in _folder().iterdir() if each.name.rpartition(".")[2] in _TYPES)]


def _folder() -> Any:
    return files("pipeline.explore") / "assets"


def _file(name: str) -> Response:
    media = f"{_TYPES[name.rpartition('.')[2]]}; charset=utf-8"
    content = page_asset("page.css").encode() if name == BASE else (_folder() / name).read_bytes()
    return Response(content, media_type=media)


async def _refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return refusal(error.status_code, error.detail)


async def _failed(_request: Request, error: Exception) -> Response:
    logging.getLogger(__name__).error("a request failed", exc_info=error)
    return refusal(500, f"this failed: {type(error).__name__}; the terminal of `headlight explore` says more")
