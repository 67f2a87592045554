"""A small read-only web server for one user of this machine.

It listens on the loopback address only, serves a fixed table of names, and requires the random part of its address in
every request. The Host header must name this machine, which prevents DNS rebinding by other sites. No part of a request
is used as a path of the file system.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any

from diffseglung.io.nifti import encode
from diffseglung.platform.errors import ConfigError
from diffseglung.viewer.contents import Contents
from diffseglung.volume import Volume

HOST = "127.0.0.1"
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Sent with every response. NiiVue loads its font from data: images and needs nothing else."""
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".txt": "text/plain; charset=utf-8",
    ".nii": "application/octet-stream",
}
STATIC = ("index.html", "view.css", "view.js", "niivue.umd.js", "LICENCES.txt", "vendored.json")
Parts = Callable[[], Iterable[bytes | memoryview]]


@dataclass(frozen=True)
class Answer:
    """A response: its type, its length in bytes, and a function that makes its parts."""

    kind: str
    size: int
    parts: Parts


def answers(contents: Contents) -> dict[str, Answer]:
    """Every response of the server, by name; the empty name is the page."""
    static = files("diffseglung.viewer") / "static"
    table = {name: _of_bytes(name, (static / name).read_bytes()) for name in STATIC}
    table[""] = table["index.html"]
    table["facts.json"] = _of_bytes("facts.json", json.dumps(contents.facts, allow_nan=False).encode())
    volumes = {"ct.nii": contents.ct, "label_map.nii": contents.label_map, "coarse.nii": contents.coarse}
    return table | {name: _of_volume(name, volume) for name, volume in volumes.items() if volume is not None}


def _type(name: str) -> str:
    return TYPES[name[name.rindex(".") :]]


def _of_bytes(name: str, content: bytes) -> Answer:
    return Answer(_type(name), len(content), lambda: (content,))


def _of_volume(name: str, volume: Volume) -> Answer:
    header = len(next(iter(encode(volume))))
    return Answer(_type(name), header + volume.array.size * volume.array.dtype.itemsize, lambda: encode(volume))


class ViewServer(ThreadingHTTPServer):
    """Listens once it is created; `serve_forever` answers requests. Use it as a context manager.

    address: URL of the page, with the random part.
    Raises ConfigError if the port is not available.
    """

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = os.name == "posix"  # elsewhere another program could take over the port

    def __init__(self, contents: Contents, port: int = 0) -> None:
        self.table = answers(contents)
        self.token = secrets.token_urlsafe(24)
        try:
            super().__init__((HOST, port), Handler)
        except OverflowError as cause:
            raise ConfigError(f"{port} is not a port", remedy="choose one from 1024 to 65535, or 0 for any") from cause
        except OSError as cause:
            if cause.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
            what = "is in use" if cause.errno == errno.EADDRINUSE else "is reserved for the system"
            raise ConfigError(f"port {port} {what}", remedy="omit --port, or choose another port") from cause
        self.hosts = {f"{name}:{self.server_port}" for name in (HOST, "localhost")}

    @property
    def address(self) -> str:
        return f"http://{HOST}:{self.server_port}/{self.token}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore browsers that close the connection."""


class Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD requests for names in the server's table."""

    server: ViewServer
    protocol_version = "HTTP/1.1"
    timeout = 60

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def _refuse_method(self) -> None:
        self.send_error(HTTPStatus.METHOD_NOT_ALLOWED)

    do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_TRACE = do_CONNECT = _refuse_method

    def _answer(self, *, body: bool) -> None:
        if self.headers.get_all("Host", []) not in [[host] for host in self.server.hosts]:
            return self.send_error(HTTPStatus.FORBIDDEN)
        start = f"/{self.server.token}/".encode()
        asked = self.path.encode(errors="replace")
        known = secrets.compare_digest(asked[: len(start)], start)
        answer = self.server.table.get(asked[len(start) :].decode(errors="replace")) if known else None
        if answer is None:
            return self.send_error(HTTPStatus.NOT_FOUND)
        self._head(HTTPStatus.OK, answer.kind, answer.size)
        if body:
            for part in answer.parts():
                self.wfile.write(part)

    def _head(self, status: HTTPStatus, kind: str, size: int) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(size))
        for name, value in HEADERS.items():
            self.send_header(name, value)
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET, HEAD")
        if status != HTTPStatus.OK:
            self.send_header("Connection", "close")  # the rest of a refused request is not read
        self.end_headers()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Send the status and its name, without any part of the request."""
        status = HTTPStatus(code)
        text = f"{status.value} {status.phrase}\n".encode()
        self._head(status, TYPES[".txt"], len(text))
        if self.command != "HEAD":
            self.wfile.write(text)

    def version_string(self) -> str:
        return "diffseglung"

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: the address contains the random part."""
