"""Addresses of requests: what the owner allowed is opened, and by no way anything else."""

from __future__ import annotations

import ipaddress
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from pipelines.config.sections import uri_prefix
from pipelines.inputs.fetch import ReadError
from pipelines.tracking import allowed_uris
from pipelines.tracking.allowed_uris import AllowedUris, is_forbidden

EVERYTHING = AllowedUris(("http://127.0.0.1/", "https://pictures.example/", "s3://bucket/photos/", "gs://bucket/"))


@pytest.mark.parametrize(
    "uri",
    [
        *("/etc/passwd", "file:///etc/passwd", "local:///etc/passwd", "photo.jpg", "~/photo.jpg", "", "\0", "\ud800"),
        *("bytes://0+8::/etc/passwd", "cell://0/0/image::/etc/passwd", "data:,hello", "data://text/plain,hello"),
        *("zip://", "memory://x", "github://a:b@/x", "ftp://127.0.0.1/x", "http://", "s3://", "://", "http://[::1/x"),
        *("https://pictures.example.evil.org/1.jpg", "https://pictures.example@evil.org/", "HTTPS://pictures.example/"),
        *("https://pictures.example", "s3://bucket/photo.jpg", "s3://bucket/photosecret", "http://169.254.169.254/"),
        *("bytes://0+8::s3://bucket/photos/1.jpg", " s3://bucket/photos/1.jpg"),
    ],
)
def test_what_is_not_below_an_allowed_prefix_is_refused(uri):
    with pytest.raises(ReadError, match="not below any address"):
        EVERYTHING.read(uri)
    with pytest.raises(ReadError, match="`uri` is off in this model"):
        AllowedUris().read(uri)


@pytest.mark.parametrize(
    "path",
    [
        *("../secret.jpg", "a/../../secret", "%2e%2e/secret", "%252e%252e/x", "..%2fsecret", "./x", "a\\..\\x", "a\nb"),
        *("1.jpg?endpoint_override=169.254.169.254", "1.jpg?scheme=http&endpoint_override=127.0.0.1:80", "1.jpg#x"),
    ],
)
def test_no_way_out_of_a_prefix(path):
    with pytest.raises(ReadError, match=r"refused in (the|an) address"):
        EVERYTHING.read(f"s3://bucket/photos/{path}")


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.1.2.3", "0.0.0.0", "169.254.169.254", "169.254.170.2", "224.0.0.1", "255.255.255.255"),
        *("::1", "::", "fe80::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1"),
        *("2002:7f00:1::", "2002:a9fe:a9fe::", "fd00:ec2::254", "100.100.100.200", "168.63.129.16"),
    ],
)
def test_addresses_of_the_machine_and_its_cloud(host):
    assert is_forbidden(ipaddress.ip_address(host))


@pytest.mark.parametrize("host", ["93.184.216.34", "10.1.2.3", "192.168.0.7", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_addresses_of_others(host):
    assert not is_forbidden(ipaddress.ip_address(host))


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1", "2130706433", "0x7f.1", "[::1]", "0"])
def test_an_allowed_host_that_is_this_machine_is_not_opened(host, monkeypatch):
    """Every spelling that the system's resolver takes."""
    monkeypatch.setattr(socket, "create_connection", lambda *_: pytest.fail("it was connected to"))
    with pytest.raises(ReadError, match=r"never opened|cannot be read"):
        AllowedUris((f"http://{host}/",)).read(f"http://{host}/1.jpg")


def test_a_name_one_of_whose_addresses_is_this_machine_is_not_opened(monkeypatch):
    answers = [(2, 1, 6, "", ("93.184.216.34", 80)), (2, 1, 6, "", ("127.0.0.1", 80))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answers)
    monkeypatch.setattr(socket, "create_connection", lambda *_: pytest.fail("it was connected to"))
    with pytest.raises(ReadError, match="never opened"):
        EVERYTHING.read("https://pictures.example/1.jpg")


def test_the_address_that_was_looked_at_is_the_one_that_is_opened(server, monkeypatch):
    """A name may lead elsewhere the second time that it is looked up."""
    answers = iter([[(2, 1, 6, "", ("127.0.0.1", server.port))]])
    real = socket.getaddrinfo

    def once(host, *rest, **how):
        return next(answers) if host == "p.example" else real(host, *rest, **how)

    monkeypatch.setattr(socket, "getaddrinfo", once)
    allowed = AllowedUris(("http://p.example",))
    assert allowed.read(f"http://p.example:{server.port}/picture") == b"picture"
    assert server.hosts == [f"p.example:{server.port}"]


class Server(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.port, self.hosts = self.server_address[1], []
        self.root = f"http://127.0.0.1:{self.port}/"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.hosts.append(self.headers["Host"])
        to = {"/moved": "/picture", "/circle": "/circle", "/file": "file:///etc/passwd", "/nowhere": ""}.get(self.path)
        if self.path == "/out":
            to = f"http://127.0.0.2:{self.server.port}/picture"
        self.send_response(404 if self.path == "/none" else 200 if to is None else 302)
        if to is not None:
            self.send_header("Location", to)
        self.end_headers()
        self.wfile.write(b"large" * 5 if self.path == "/large" else b"picture")

    def log_message(self, *_) -> None:
        pass


@pytest.fixture
def server(monkeypatch):
    """A server of pictures at 127.0.0.1, which the tests allow; 127.0.0.2 is as forbidden as ever."""
    monkeypatch.setattr(allowed_uris, "is_forbidden", lambda ip: str(ip) != "127.0.0.1" and is_forbidden(ip))
    with Server() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_a_picture_below_an_allowed_prefix(server):
    allowed = AllowedUris((server.root,))
    assert allowed.read(f"{server.root}picture") == b"picture"
    assert allowed.read(f"{server.root}moved") == b"picture"


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("none", "answered 404"),
        ("out", "not below any address"),
        ("file", "not below any address"),
        ("circle", "more than 5 redirects"),
        ("nowhere", "more than 5 redirects"),
        ("large", "more than 20 bytes"),
    ],
)
def test_a_server_that_answers_otherwise(server, path, reason, monkeypatch):
    monkeypatch.setattr(allowed_uris, "MAX_BYTES", 20)
    with pytest.raises(ReadError, match=reason):
        AllowedUris((server.root,)).read(f"{server.root}{path}")


def test_a_redirect_to_another_allowed_place_is_looked_at_anew(server):
    with pytest.raises(ReadError, match="never opened"):
        AllowedUris((server.root, "http://127.0.0.2:")).read(f"{server.root}out")
    assert len(server.hosts) == 1


@pytest.mark.parametrize("prefix", ["https://host/", "http://host:80/a/b-", "s3://bucket/", "gs://bucket/photos/"])
def test_prefixes_that_can_be_allowed(prefix):
    assert uri_prefix(prefix) == prefix


@pytest.mark.parametrize(
    "prefix",
    [
        *(
            "",
            "/",
            "/data/",
            "file:///data/",
            "bytes://",
            "cell://",
            "https://host",
            "s3://bucket",
            "s3://",
            "http:///",
        ),
        *("https://user:secret@host/", "ftp://host/", "s3://bucket/?region=x", "https://host/ x", "data:", "https://"),
    ],
)
def test_prefixes_that_cannot(prefix):
    with pytest.raises(ValueError, match="expected https://HOST"):
        uri_prefix(prefix)
