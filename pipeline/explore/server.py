"""Starts the explorer: opens a run, binds an address, prints where the page is, and serves until it is stopped."""

from __future__ import annotations

import secrets
import socket
import sys
from pathlib import Path

from attribution.errors import InputError
from pipeline.explore.computing import Desk
from pipeline.explore.saving import Notebook
from pipeline.explore.security import Guard, allowed_hosts, cookie_of, is_loopback, netloc
from pipeline.explore.session import Session
from pipeline.runs import Run
from pipeline.terminal import unguarded


def serve(
    run: Run, *, host: str, port: int, texts: int, save: Path, trees: Path | None = None, locked: bool = False
) -> None:
    """Serve the page of a run until the process is interrupted; `locked`: with a token on loopback, too."""
    import uvicorn

    if save.is_dir():
        raise InputError(f"error: --save {save} is a folder; give a file such as {save / 'patterns.yaml'}.")
    desk = opened(run, texts, trees)
    listening = listen(host, port)
    bound = listening.getsockname()[1]
    token = None if is_loopback(host) and not locked else secrets.token_urlsafe(24)
    guard = guarded(desk, Notebook(save, evidence(desk.session)), host=host, port=bound, token=token)
    # Printed past what hides secrets from logs: the token is of no use if nobody sees it.
    print(f"{run.manifest['name']}: {address(host, bound, token)}", file=unguarded(sys.stdout), flush=True)
    print(f"patterns go to {save}; Ctrl-C stops", flush=True)
    config = uvicorn.Config(guard, log_level="warning", access_log=False, server_header=False, lifespan="off")
    uvicorn.Server(config).run(sockets=[listening])


def opened(run: Run, texts: int, trees: Path | None = None) -> Desk:
    """The run with its model loaded; InputError for one that cannot be explored."""
    if not run.config:
        raise InputError(f"run error: {run.folder} has no config.yaml, which says what model it explained.")
    session = Session(run, texts, trees)
    _ = session.explainer, session.rows, session.vocabulary  # what is wrong with them is said before anything is served
    return Desk(session)


def guarded(desk: Desk, notebook: Notebook, *, host: str, port: int, token: str | None) -> Guard:
    """The application behind its guard."""
    from pipeline.explore.routes import application

    return Guard(application(desk, notebook), allowed_hosts(host, port), token, cookie_of(port))


def evidence(session: Session) -> tuple[str, ...]:
    """What a person who saves patterns has looked at."""
    manifest = session.run.manifest
    texts = f"{len(session.rows)} sentences of {session.trees.name}" if session.trees else f"{len(session.rows)} texts"
    return (f"run {manifest.get('name')} {manifest.get('run_id', '')}".strip(), texts)


def listen(host: str, port: int) -> socket.socket:
    """A socket that is bound; InputError where it cannot be."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"error: --host {host} --port {port}: {reason}; --port 0 takes any that is free.") from None


def address(host: str, port: int, token: str | None) -> str:
    """What a person opens."""
    name = socket.gethostname() if host in ("0.0.0.0", "::") else host
    return f"http://{netloc(name)}:{port}/" + (f"?token={token}" if token else "")
