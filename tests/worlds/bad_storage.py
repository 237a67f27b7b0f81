"""A proxy before object storage that throttles, errs, resets and delays a part of the requests, by a seed."""

from __future__ import annotations

import http.client
import random
import socket
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ERRORS = {
    "503": (503, "SlowDown", "Please reduce your request rate."),
    "500": (500, "InternalError", "We encountered an internal error. Please try again."),
    "429": (429, "TooManyRequests", "Too many requests."),
}
KINDS = (*ERRORS, "reset", "delay")
DELAY_SECONDS = 0.5
OWN = ("transfer-encoding", "connection", "content-length")
"""Headers of one link, which the next does not get."""


class BadStorage:
    """``url`` stands for ``upstream``; a context manager.

    Attributes:
        share: of the requests that go wrong, from 0 to 1.
        counts: requests, and errors by their kind.
    """

    def __init__(self, upstream: str, share: float, seed: int) -> None:
        self.upstream, self.share = upstream.removeprefix("http://"), share
        self.counts: Counter[str] = Counter()
        self._random, self._lock = random.Random(seed), threading.Lock()
        bad = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                body = self.body()
                kind = bad.choose()
                if kind == "reset":
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                    self.close_connection = True
                    return self.connection.close()
                if kind == "delay":
                    time.sleep(DELAY_SECONDS)
                if kind in ERRORS:
                    status, code, message = ERRORS[kind]
                    text = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
                    return self.give(status, [("Content-Type", "application/xml")], text)
                link = http.client.HTTPConnection(bad.upstream, timeout=60)
                passed = {name: value for name, value in self.headers.items() if name.lower() not in OWN}
                link.request(self.command, self.path, body or None, passed)
                answer = link.getresponse()
                headers = [(name, value) for name, value in answer.getheaders() if name.lower() not in OWN]
                length = answer.getheader("Content-Length") if self.command == "HEAD" else None
                return self.give(answer.status, headers, answer.read(), length)

            def body(self) -> bytes:
                if "chunked" not in (self.headers.get("Transfer-Encoding") or ""):
                    return self.rfile.read(int(self.headers.get("Content-Length") or 0))
                content = b""
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    content += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return content

            def give(
                self, status: int, headers: list[tuple[str, str]], content: bytes, length: str | None = None
            ) -> None:
                self.send_response_only(status)
                for name, value in headers:
                    self.send_header(name, value)
                self.send_header("Content-Length", length or str(len(content)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = answer

            def log_message(self, *arguments) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.handle_error = lambda *arguments: None  # of clients that went away
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def choose(self) -> str | None:
        """What happens to the next request; None for nothing."""
        with self._lock:
            self.counts["requests"] += 1
            if self._random.random() >= self.share:
                return None
            kind = self._random.choice(KINDS)
            self.counts[kind] += 1
            return kind

    @property
    def errors(self) -> int:
        """Requests that went wrong so far."""
        return sum(self.counts[kind] for kind in KINDS)

    def __enter__(self) -> BadStorage:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error) -> None:
        self._server.shutdown()
