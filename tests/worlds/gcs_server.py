"""A Google Cloud Storage server on the loopback interface: a bucket that is listed and whose objects are read, written
and deleted, as pyarrow's client and Google's own ask for it (the JSON API, version 1, with resumable uploads).

    python gcs_server.py BUCKET PAGE      prints its port; PAGE names at most come with a request for a listing

It has a process of its own: pyarrow holds Python's lock while it waits for some of the answers.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, quote, unquote, urlsplit
from urllib.request import Request, urlopen


class Bucket:
    """The side of the tests."""

    def __init__(self, name: str, port: int) -> None:
        self.name, self.port = name, port

    def uri(self, path: str) -> str:
        """As a user gives it: without credentials, at this server."""
        return f"gs://anonymous@{self.name}/{path}?scheme=http&endpoint_override=127.0.0.1:{self.port}"

    def put(self, name: str, data: bytes, time: float = 1_700_000_000) -> None:
        self._ask(f"/put/{quote(name, safe='')}?time={time}", data)

    def requests(self) -> list[str]:
        """The targets of the clients' requests since this was asked last."""
        return json.loads(self._ask("/requests", b""))

    def _ask(self, target: str, data: bytes) -> bytes:
        with urlopen(Request(f"http://127.0.0.1:{self.port}{target}", data, method="POST")) as answer:
            return answer.read()


@contextmanager
def serving(name: str, page: int = 1000):
    process = subprocess.Popen([sys.executable, __file__, name, str(page)], stdout=subprocess.PIPE, text=True)
    try:
        yield Bucket(name, int(process.stdout.readline()))
    finally:
        process.kill()
        process.communicate()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    bucket, page = "", 1000
    objects: dict[str, tuple[bytes, float]] = {}  # noqa: RUF012 (all requests share them)
    requests: list[str] = []  # noqa: RUF012
    uploads: dict[str, bytes] = {}  # noqa: RUF012 (what has come so far, by the object's name)

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = urlsplit(self.path)
        if parts.path == "/requests":
            asked = list(self.requests)
            self.requests.clear()  # before the answer, after which there may be a new one
            self.answer(200, asked)
        elif parts.path.startswith("/upload/"):
            name = parse_qs(parts.query)["name"][0]
            self.uploads[name] = b""
            self.answer(200, {}, {"Location": f"http://{self.headers['Host']}/uploads/{quote(name, safe='')}"})
        else:
            when = float(parse_qs(parts.query)["time"][0])
            self.objects[unquote(parts.path.removeprefix("/put/"))] = data, when
            self.answer(200, {})

    def do_PUT(self) -> None:
        """A piece of an upload; the last one names the size of the whole."""
        name = unquote(self.path.removeprefix("/uploads/"))
        self.uploads[name] += self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers["Content-Range"].endswith("/*"):
            self.answer(308, b"", {"Range": f"bytes=0-{len(self.uploads[name]) - 1}"})
        else:
            self.objects[name] = self.uploads.pop(name), time.time()
            self.answer(200, self.metadata(name))

    def do_DELETE(self) -> None:
        name = unquote(urlsplit(self.path).path.removeprefix(f"/storage/v1/b/{self.bucket}/o/"))
        gone = self.objects.pop(name, None) is None
        self.answer(404 if gone else 204, b"")

    def do_GET(self) -> None:
        self.requests.append(self.path)
        parts = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        below = parts.path.removeprefix("/download").removeprefix(f"/storage/v1/b/{self.bucket}")
        name = unquote(below.removeprefix("/o/"))
        if below == "":
            self.answer(200, {"kind": "storage#bucket", "name": self.bucket, "id": self.bucket})
        elif below == "/o":
            self.answer(200, self.listing(**{key: query.get(key, "") for key in ("prefix", "delimiter", "pageToken")}))
        elif name not in self.objects:
            self.answer(404, {"error": {"code": 404, "message": f"there is no {self.path}"}})
        elif query.get("alt") == "media":
            self.content(self.objects[name][0])
        else:
            self.answer(200, self.metadata(name))

    def listing(self, prefix: str, delimiter: str, pageToken: str) -> dict:
        """In the order of names. With a delimiter, of what lies deeper only the prefixes, which pyarrow ignores."""
        names = sorted(name for name in self.objects if name.startswith(prefix) and name > pageToken)
        deeper = set()
        if delimiter:
            deeper = {name for name in names if delimiter in name[len(prefix) : -1]}
            names = [name for name in names if name not in deeper]
        page = names[: self.page]
        found = {"kind": "storage#objects", "items": [self.metadata(name) for name in page]}
        if deeper:
            found["prefixes"] = sorted({prefix + name[len(prefix) :].partition(delimiter)[0] + "/" for name in deeper})
        return found | ({"nextPageToken": page[-1]} if len(page) < len(names) else {})

    def metadata(self, name: str) -> dict:
        data, when = self.objects[name]
        shown = datetime.fromtimestamp(when, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return {
            "kind": "storage#object", "id": f"{self.bucket}/{name}", "name": name, "bucket": self.bucket,
            "size": str(len(data)), "generation": "1", "timeCreated": shown, "updated": shown,
        }  # fmt: skip

    def content(self, data: bytes) -> None:
        first, last = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "bytes=0-")).groups()
        some = data[int(first) : int(last) + 1 if last else None]
        status = 206 if "Range" in self.headers else 200
        self.answer(status, some, {"Content-Range": f"bytes {first}-{int(first) + len(some) - 1}/{len(data)}"})

    def answer(self, status: int, body: dict | list | bytes, headers: dict[str, str] | None = None) -> None:
        sent = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(sent)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(sent)

    def log_message(self, *_) -> None:
        pass


if __name__ == "__main__":
    Handler.bucket, Handler.page = sys.argv[1], int(sys.argv[2])
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_address[1], flush=True)
    server.serve_forever()
