"""The view's server: one table of names, for one person on one machine, to be read from only."""

from __future__ import annotations

import hashlib
import http.client
import json
import socket
import threading
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest

from diffseglung import output
from diffseglung.io.nifti import write_nifti
from diffseglung.platform.errors import ConfigError
from diffseglung.segmentation import Segmentation
from diffseglung.viewer.contents import Contents, gather
from diffseglung.viewer.server import HEADERS, ViewServer

STATIC = files("diffseglung.viewer") / "static"
CONTENTS = Contents({"title": "none"})


@pytest.fixture
def server() -> Iterator[ViewServer]:
    with ViewServer(CONTENTS) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ask(
    server: ViewServer, name: str, *, method: str = "GET", token: str | None = None, **headers: str
) -> tuple[http.client.HTTPResponse, bytes]:
    """One request, with the right token and Host unless told otherwise."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    connection.request(method, f"/{server.token if token is None else token}/{name}", headers=headers)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer, body


def raw(server: ViewServer, request: bytes) -> bytes:
    """The status line and all that follows a request written by hand."""
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=10) as link:
        link.sendall(request)
        link.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: link.recv(65536), b""))


def test_it_listens_on_the_loopback_address_alone(server: ViewServer) -> None:
    assert server.socket.getsockname()[0] == "127.0.0.1"
    assert server.address == f"http://127.0.0.1:{server.server_port}/{server.token}/"


def test_names_of_the_table_are_served_with_every_header(server: ViewServer) -> None:
    kinds = {"": "text/html", "view.js": "text/javascript", "view.css": "text/css", "facts.json": "application/json"}
    for name, kind in kinds.items():
        answer, body = ask(server, name)
        assert (answer.status, answer.headers.get_content_type()) == (200, kind)
        assert len(body) == int(answer.headers["Content-Length"]) > 0
        assert {key: answer.headers[key] for key in HEADERS} == HEADERS
    assert json.loads(ask(server, "facts.json")[1]) == {"title": "none"}


def test_the_policy_lets_nothing_in_from_elsewhere() -> None:
    policy = HEADERS["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert not any(word in policy for word in ("http", "unsafe", "*"))


def test_nothing_is_found_without_the_token(server: ViewServer) -> None:
    wrong = server.token[:-1] + ("A" if server.token[-1] != "A" else "B")
    for token in (wrong, "", server.token.swapcase(), server.token + "x", "%"):
        for name in ("", "view.js", "facts.json"):
            answer, body = ask(server, name, token=token)
            assert (answer.status, body) == (404, b"404 Not Found\n")
    bare = server.token.encode()
    for target in (b"/", b"*", b"/index.html", b"/favicon.ico", b"/\xff/", bare, b"/" + bare, bare + b"/"):
        host = f"127.0.0.1:{server.server_port}".encode()
        assert raw(server, b"GET " + target + b" HTTP/1.1\r\nHost: " + host + b"\r\n\r\n").startswith(
            b"HTTP/1.1 404 "
        ), target


def test_two_servers_have_two_long_tokens(server: ViewServer) -> None:
    with ViewServer(CONTENTS) as other:
        assert other.token != server.token
        assert len(other.token) >= 32


@pytest.mark.parametrize(
    "name",
    [
        "../contents.py", "..%2fcontents.py", "%2e%2e/contents.py", "..\\contents.py", "static/view.js", "./view.js",
        "/etc/passwd", "//etc/passwd", "view.js%00.css", "view.js?x=1", "view.js/", "VIEW.JS", "ct.nii", "coarse.nii",
    ],
)  # fmt: skip
def test_no_other_name_leads_anywhere(server: ViewServer, name: str) -> None:
    assert ask(server, name)[0].status == 404


def test_a_host_of_another_name_is_refused(server: ViewServer) -> None:
    port = server.server_port
    for host in (f"127.0.0.1:{port}", f"localhost:{port}"):
        assert ask(server, "", Host=host)[0].status == 200
    for host in ("127.0.0.1", "localhost", f"evil.example:{port}", f"127.0.0.1:{port + 1}", f"[::1]:{port}", ""):
        answer, body = ask(server, "", Host=host)
        assert (answer.status, body) == (403, b"403 Forbidden\n"), host
    path = f"/{server.token}/".encode()
    assert raw(server, b"GET " + path + b" HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 403 ")
    twice = f"Host: 127.0.0.1:{port}\r\nHost: evil.example\r\n\r\n".encode()
    assert raw(server, b"GET " + path + b" HTTP/1.1\r\n" + twice).startswith(b"HTTP/1.1 403 ")


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"])
def test_other_methods_are_not_allowed(server: ViewServer, method: str) -> None:
    answer, _ = ask(server, "", method=method)
    assert answer.status == 405
    assert answer.headers["Allow"] == "GET, HEAD"


def test_head_gives_the_headers_of_get(server: ViewServer) -> None:
    answer, body = ask(server, "view.js", method="HEAD")
    assert (answer.status, body) == (200, b"")
    assert answer.headers["Content-Length"] == ask(server, "view.js")[0].headers["Content-Length"]
    assert ask(server, "nothing", method="HEAD")[0].status == 404


def test_errors_repeat_nothing_of_the_request_and_carry_the_headers(server: ViewServer) -> None:
    for answer, body in (ask(server, "snoop"), ask(server, "", method="POST"), ask(server, "", Host="snoop")):
        assert b"snoop" not in body
        assert answer.headers["Content-Security-Policy"] == HEADERS["Content-Security-Policy"]
        assert answer.headers["Server"] == "diffseglung"
    assert b"snoop" not in raw(server, b"snoop / HTTP/1.1\r\n\r\n")
    assert b"snoop" not in raw(server, b"<snoop>\r\n\r\n")


def test_volumes_are_the_files_that_would_be_written(chest: Segmentation, tmp_path: Path) -> None:
    output.write(chest, tmp_path / "out", output.Products(preview=False, report=False))
    write_nifti(tmp_path / "ct.nii.gz", chest.ct)
    contents = gather(tmp_path / "out", tmp_path / "ct.nii.gz")
    volumes = {"ct": contents.ct, "label_map": contents.label_map, "coarse": contents.coarse}
    with ViewServer(contents) as server:
        for name, volume in volumes.items():
            assert volume is not None
            write_nifti(tmp_path / "expected.nii", volume)
            answer = server.table[f"{name}.nii"]
            body = b"".join(bytes(part) for part in answer.parts())
            assert body == (tmp_path / "expected.nii").read_bytes()
            assert len(body) == answer.size


def test_a_port_that_is_taken_is_named(server: ViewServer) -> None:
    with pytest.raises(ConfigError, match=f"port {server.server_port} is in use"):
        ViewServer(CONTENTS, server.server_port)
    with pytest.raises(ConfigError, match="70000 is not a port"):
        ViewServer(CONTENTS, 70000)


def test_vendored_files_are_the_recorded_ones() -> None:
    for name, record in json.loads((STATIC / "vendored.json").read_text(encoding="utf-8"))["files"].items():
        assert hashlib.sha256((STATIC / name).read_bytes()).hexdigest() == record["sha256"]
        assert record["version"] in record["origin"]
        assert f"{record['name']}@{record['version']}" in record["renew"][0]
        assert "Redistribution and use" in (STATIC / record["licences_of_parts"]).read_text(encoding="utf-8")


def test_the_package_brings_its_static_files() -> None:
    listed = {path.name for path in STATIC.iterdir()}
    assert listed == {"index.html", "view.css", "view.js", "niivue.umd.js", "LICENCES.txt", "vendored.json"}
    import tomllib

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))
    assert "viewer/static/*" in project["tool"]["setuptools"]["package-data"]["diffseglung"]


def test_the_page_names_no_other_machine_and_builds_no_markup_from_text() -> None:
    for name in ("index.html", "view.css", "view.js"):
        text = (STATIC / name).read_text(encoding="utf-8")
        assert "//" not in text.replace("// ", ""), name
        assert not any(word in text for word in ("innerHTML", "insertAdjacent", "document.write", " onclick", "eval("))
