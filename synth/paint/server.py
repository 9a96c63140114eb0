"""The page's server: Starlette and uvicorn on 127.0.0.1, for pages that it serves itself and no others."""

import asyncio
import socket
import sys
import traceback
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from shared.errors import InputError
from shared.run.faults import explain_fault
from synth.paint.assembly import assemble
from synth.paint.painting import LONGEST_TEXT
from synth.paint.studio import Answer, Studio, as_json
from synth.paint.turns import Replaced, TooMany

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from uvicorn import Server

HOST = "127.0.0.1"
BODY_SECONDS = 20.0
LARGEST_FILE = 2**25
"""Bytes of a picture that is brought."""
MOST_CONNECTIONS = 64
PROTECTED = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}


class _Refused(Exception):
    """status: of HTTP."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def listen(port: int) -> socket.socket:
    """A socket on this machine's own address alone.

    Raises:
        InputError: another program has the port.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen()
    except OSError as error:
        listener.close()
        raise InputError(f"port {port} of {HOST} cannot be used: {error.strerror}; give another --port, or 0 for any free one") from error
    return listener


def require_libraries() -> None:
    """Raises InputError: they are not installed."""
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise InputError(f"the page needs {error.name}: pip install 'essnet-spade[paint]'") from error


def build_server(studio: Studio, port: int) -> "Server":
    """A server for a socket that listens on `port`: `.run(sockets=[…])`, until `.should_exit` or a signal."""
    import uvicorn

    settings = uvicorn.Config(
        build_app(studio, port),
        http="h11",
        ws="none",
        loop="asyncio",
        lifespan="off",
        log_level="critical",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=MOST_CONNECTIONS,
        timeout_graceful_shutdown=2,
    )
    return uvicorn.Server(settings)


def build_app(studio: Studio, port: int) -> "Starlette":
    from starlette.applications import Starlette
    from starlette.responses import Response
    from starlette.routing import Route

    page = assemble()
    largest_painting = 2 * studio.config.max_pixels + LONGEST_TEXT + 4

    async def show_page(request: "Request") -> Answer:
        return Answer(page.html, "text/html; charset=utf-8", {"Content-Security-Policy": page.policy})

    async def about(request: "Request") -> Answer:
        return studio.about()

    async def painted(request: "Request", use: Callable[[bytes], Awaitable[Answer]]) -> Answer:
        return await use(await _body(request, largest_painting))

    async def brought(request: "Request", use: Callable[[bytes, str], Awaitable[Answer]]) -> Answer:
        return await use(await _body(request, LARGEST_FILE), request.query_params.get("name", ""))

    gets: dict[str, Callable[[Request], Awaitable[Answer]]] = {
        "/": show_page,
        "/about": about,
        "/map": lambda request: studio.map(),
        "/near/{class_id}": lambda request: studio.near(request.path_params["class_id"]),
        "/layouts": lambda request: studio.layout_names(request.query_params.get("first", "0")),
        "/layouts/{index}": lambda request: studio.layout(request.path_params["index"]),
        "/layouts/{index}/picture": lambda request: studio.layout_picture(request.path_params["index"]),
    }
    posts: dict[str, Callable[[Request], Awaitable[Answer]]] = {
        "/image": lambda request: painted(request, studio.image),
        "/take/{what}": lambda request: painted(request, lambda body: studio.take(body, request.path_params["what"])),
        "/labels": lambda request: brought(request, studio.labels),
        "/photo": lambda request: brought(request, studio.photo),
        "/style": lambda request: brought(request, studio.style),
    }

    def endpoint(handler: Callable[["Request"], Awaitable[Answer]]) -> Callable[["Request"], Awaitable["Response"]]:
        async def answer(request: "Request") -> "Response":
            status, given = await _answered(request, handler, port)
            headers = PROTECTED | given.headers | ({"Connection": "close"} if status in (408, 413) else {})
            return Response(given.body, status, headers, given.kind)

        return answer

    async def no_such_page(request: "Request", error: Exception) -> "Response":
        status = getattr(error, "status_code", 404)
        return Response(as_json({"error": "there is no such page here"}).body, status, PROTECTED, "application/json")

    routes = [Route(path, endpoint(handler), methods=["GET"]) for path, handler in gets.items()]
    routes += [Route(path, endpoint(handler), methods=["POST"]) for path, handler in posts.items()]
    return Starlette(routes=routes, exception_handlers={404: no_such_page, 405: no_such_page})


async def _answered(request: "Request", handler: Callable[["Request"], Awaitable[Answer]], port: int) -> tuple[int, Answer]:
    """Status and answer; whatever goes wrong is a line of JSON."""
    from starlette.requests import ClientDisconnect

    try:
        require_own_page(request.method, request.headers, port)
        return 200, await handler(request)
    except _Refused as error:
        status, line = error.status, str(error)
    except InputError as error:
        status, line = 400, " ".join(str(error).split())
    except Replaced:  # no mistake: the answer to the newer painting is on its way
        return 204, Answer(b"")
    except TooMany as error:
        status, line = 503, str(error)
    except ClientDisconnect:
        status, line = 400, "the request has no end"
    except Exception as error:
        told = explain_fault(error)
        if told is None:  # our own mistake
            traceback.print_exc(file=sys.stderr)
        status, line = 500, told or "the server made a mistake; its terminal says more"
    return status, as_json({"error": line})


def require_own_page(method: str, headers: Any, port: int) -> None:
    """Refuse what another web page, or another name for this machine, may have sent.

    `Host` tells a page that has had its own name lead here (DNS rebinding); `Origin` and `Sec-Fetch-Site` tell the page that asks.
    """
    hosts = {f"{HOST}:{port}", f"localhost:{port}"} | ({HOST, "localhost"} if port == 80 else set())
    if headers.get("host", "").lower() not in hosts:
        raise _Refused(403, f"this server answers to http://{HOST}:{port} only")
    origin = headers.get("origin")
    if origin is None and method not in ("GET", "HEAD"):
        raise _Refused(403, "a request without Origin; only the page itself may ask")
    if origin is not None and origin.lower() not in {f"http://{host}" for host in hosts}:
        raise _Refused(403, "another page asks; only the page itself may")
    site, mode = headers.get("sec-fetch-site"), headers.get("sec-fetch-mode")
    if site not in (None, "same-origin", "none") and mode != "navigate":
        raise _Refused(403, "another page asks; only the page itself may")


async def _body(request: "Request", most: int) -> bytes:
    """What was sent, as far as it is not too much and comes in time."""
    announced = request.headers.get("content-length", "0")
    if not announced.isdecimal() or len(announced) > 12 or int(announced) > most:
        raise _Refused(413, f"more than {most} bytes were announced")
    body = bytearray()

    async def read() -> None:
        async for part in request.stream():
            body.extend(part)
            if len(body) > most:
                raise _Refused(413, f"more than {most} bytes came")

    try:
        await asyncio.wait_for(read(), BODY_SECONDS)
    except TimeoutError:
        raise _Refused(408, f"the request did not end within {BODY_SECONDS:.0f} s") from None
    return bytes(body)
