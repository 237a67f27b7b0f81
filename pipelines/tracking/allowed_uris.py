"""What a served captioner opens for a request: addresses below prefixes that the model's owner allowed, and no others.

A request is a stranger's. So its ``uri`` is never a local file, a stretch of one or a cell of a table, and never leads,
by a name that resolves there or by a redirect, to the server's own machine or to the metadata of its cloud.
"""

from __future__ import annotations

import http.client
import ipaddress
import re
import socket
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote, unquote, urljoin, urlsplit

from pipelines.inputs.fetch import MAX_BYTES, ReadError, read

OFF = (
    "`uri` is off in this model: send the picture's bytes in the column `image`. Its owner can allow addresses: "
    "`rnncond promote --allow-uri PREFIX`, or tracking.allowed_uris in the recipe"
)
SECONDS = 20
"""Without a sign of life of an HTTP server, and, three times this, for the whole of a picture."""
REDIRECTS = 5
BLOCK = 1 << 20
METADATA = frozenset({"fd00:ec2::254", "100.100.100.200", "168.63.129.16", "192.0.0.192"})
"""Addresses at which clouds tell a machine its credentials, where they are not link-local."""
PRINTED = "/%:@!$&'()*+,;=~?[]"
NAT64 = ipaddress.ip_network("64:ff9b::/96")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True)
class AllowedUris:
    """Attributes:
    prefixes: each as ``pipelines.config.sections.uri_prefix`` takes it; none: nothing is opened.
    """

    prefixes: Sequence[str] = ()

    def read(self, uri: str) -> bytes:
        """The bytes at ``uri``.

        Raises:
            ReadError: it is not allowed, or cannot be read.
        """
        self.check(uri)
        return self.read_http(uri) if uri.startswith(("http://", "https://")) else read(uri)[1]

    def check(self, uri: str) -> None:
        if not self.prefixes:
            raise ReadError(OFF)
        if not uri.startswith(tuple(self.prefixes)):
            raise ReadError("not below any address that the model's owner has allowed")
        plain = unquote(unquote(uri))
        if re.search(r"[\x00-\x1f\x7f\\]", uri) or {".", ".."} & set(re.split(r"[/\\]", plain)):
            raise ReadError("control characters, backslashes and the parts . and .. are refused in an address")
        # Options could send the request to another server.
        if "#" in uri or ("?" in uri and not uri.startswith("http")):
            raise ReadError("? and # are refused in the address of an object")

    def read_http(self, uri: str) -> bytes:
        end = time.monotonic() + 3 * SECONDS
        try:
            for _ in range(REDIRECTS + 1):
                self.check(uri)
                connection = connect(uri)
                try:
                    parts = urlsplit(uri)
                    path = quote(parts.path or "/", safe=PRINTED)
                    target = f"{path}?{quote(parts.query, safe=PRINTED)}" if parts.query else path
                    connection.request("GET", target, headers={"User-Agent": "rnncond", "Accept-Encoding": "identity"})
                    response = connection.getresponse()
                    if response.status in (301, 302, 303, 307, 308):
                        uri = urljoin(uri, response.headers.get("Location", ""))
                        continue
                    if response.status != 200:
                        raise ReadError(f"the server answered {response.status}")
                    return body(response, end)
                finally:
                    connection.close()
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise ReadError(f"the server cannot be read: {type(error).__name__}") from None
        raise ReadError(f"more than {REDIRECTS} redirects")


def connect(uri: str) -> http.client.HTTPConnection:
    """A connection to a host all of whose addresses may be opened; to the address that was looked at, as a name may
    lead elsewhere the next time. A proxy would look names up itself, so none is used.

    Raises:
        ReadError: one of the addresses is of this machine, its network or its cloud.
    """
    parts = urlsplit(uri)
    host, secure = parts.hostname or "", parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]
    if not addresses or any(map(is_forbidden, addresses)):
        raise ReadError("the host has an address of the server's own machine or network, which is never opened")
    kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    connection = kind(host, port, timeout=SECONDS)
    connection.sock = socket.create_connection((str(addresses[0]), port), SECONDS)
    if secure:
        connection.sock = ssl.create_default_context().wrap_socket(connection.sock, server_hostname=host)
    return connection


def is_forbidden(address: Address) -> bool:
    """Whether an address is loopback, link-local, a cloud's metadata, or nobody's; also written as IPv6."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_forbidden(inner)
    own = address.is_loopback or address.is_link_local or address.is_unspecified
    return own or address.is_multicast or address.is_reserved or str(address) in METADATA


def body(response: http.client.HTTPResponse, end: float) -> bytes:
    parts, size = [], 0
    while block := response.read1(BLOCK):
        parts.append(block)
        size += len(block)
        if size > MAX_BYTES:
            raise ReadError(f"more than {MAX_BYTES:,} bytes")
        if time.monotonic() > end:
            raise ReadError(f"not read within {3 * SECONDS} seconds")
    return b"".join(parts)
