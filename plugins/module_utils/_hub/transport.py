# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""Ranges of files over HTTP with the standard library alone: connections that stay open, redirects, proxies.

The client huggingface_hub is not used for this. Since release 1.18 it begins every interrupted download anew, it does
not check hashes over HTTP (both seen with 2.4.0), and reading through its HTTP library costs more of a core than
hashing does. Addresses and the token are its own, see api.py.
"""

from __future__ import annotations

import base64
import http.client
import ssl
import typing as t
import urllib.parse
import urllib.request

# Seconds without a byte.
TIMEOUT_SECONDS = 30
_REDIRECTS = 10
# The body of a redirect is read, so that its connection stays in use.
_BODY_BYTES = 1 << 16
_REDIRECT_STATUS = (301, 302, 303, 307, 308)
_DEFAULT_PORTS = {"http": 80, "https": 443}


class TransportError(Exception):
    """No answer, or one that breaks off: worth another try. The text holds no address, which may be signed."""


class Answer:
    """An answer whose body is read piece by piece."""

    def __init__(self, response: http.client.HTTPResponse, place: str) -> None:
        self.status = response.status
        self.headers = response.headers
        self.place = place  # where it came from in the end; may be signed: never to be shown
        self._response = response

    def read_into(self, buffer: memoryview) -> int:
        """Bytes read; 0 at the end."""
        try:
            return self._response.readinto(buffer)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise TransportError(type(error).__name__) from None

    def read(self, limit: int) -> bytes:
        """The whole body, at most so many bytes."""
        try:
            return self._response.read(limit)
        except (OSError, http.client.HTTPException) as error:
            raise TransportError(type(error).__name__) from None

    @property
    def is_read(self) -> bool:
        """Whether the body was read to its end, so that the connection can be used again."""
        return self._response.isclosed()


class Connections:
    """The open connections of one thread, one for each origin."""

    def __init__(self, environment_proxies: t.Mapping[str, str] | None = None) -> None:
        self._open: dict[tuple[str, str], http.client.HTTPConnection] = {}
        self._last: tuple[tuple[str, str], Answer] | None = None
        self._proxies = urllib.request.getproxies() if environment_proxies is None else environment_proxies

    def get(self, address: str, headers: t.Mapping[str, str]) -> Answer:
        """The answer to a GET after all redirects. Raises TransportError.

        An Authorization in the headers is for the address's own origin only.
        """
        headers = dict(headers)
        for _hop in range(_REDIRECTS):
            answer = self._ask(address, headers)
            location = answer.headers.get("Location")
            if answer.status not in _REDIRECT_STATUS or not location:
                return answer
            answer.read(_BODY_BYTES)
            further = urllib.parse.urljoin(address, location)
            if _origin(further) != _origin(address):
                headers = {name: value for name, value in headers.items() if name.lower() != "authorization"}
            if urllib.parse.urlsplit(further).scheme not in _DEFAULT_PORTS:
                raise TransportError("a redirect to what is neither http nor https")
            address = further
        raise TransportError(f"more than {_REDIRECTS} redirects")

    def close(self) -> None:
        """Close all connections."""
        for connection in self._open.values():
            connection.close()
        self._open.clear()
        self._last = None

    def _ask(self, address: str, headers: t.Mapping[str, str]) -> Answer:
        if self._last and not self._last[1].is_read:
            # What is left of a body would be taken for the next answer.
            self._drop(self._last[0])
        self._last = None
        origin = _origin(address)
        is_used = origin in self._open
        try:
            answer = self._send(address, origin, headers)
        except (OSError, http.client.HTTPException, ValueError) as error:
            self._drop(origin)
            if not is_used:
                raise TransportError(_why(error)) from None
            # The other side may close a connection that waits; a new one tells whether that was all.
            try:
                answer = self._send(address, origin, headers)
            except (OSError, http.client.HTTPException, ValueError) as again:
                self._drop(origin)
                raise TransportError(_why(again)) from None
        self._last = (origin, answer)
        return answer

    def _send(self, address: str, origin: tuple[str, str], headers: t.Mapping[str, str]) -> Answer:
        url = urllib.parse.urlsplit(address)
        target = urllib.parse.urlunsplit(("", "", url.path or "/", url.query, ""))
        proxy = self._proxy(url)
        if proxy and url.scheme == "http":
            target = urllib.parse.urlunsplit(("http", url.netloc.rpartition("@")[2], url.path or "/", url.query, ""))
            headers = {**headers, **_proxy_login(proxy)}
        connection = self._open.get(origin)
        if connection is None:
            connection = self._open[origin] = _connect(url, proxy)
        connection.request("GET", target, headers={"Accept-Encoding": "identity", **headers})
        return Answer(connection.getresponse(), address)

    def _proxy(self, url: urllib.parse.SplitResult) -> str:
        address = self._proxies.get(url.scheme) or self._proxies.get("all") or ""
        if not address or urllib.request.proxy_bypass(url.hostname or ""):
            return ""
        return address if "://" in address else f"http://{address}"

    def _drop(self, origin: tuple[str, str]) -> None:
        connection = self._open.pop(origin, None)
        if connection is not None:
            connection.close()


def _connect(url: urllib.parse.SplitResult, proxy: str) -> http.client.HTTPConnection:
    host, port = url.hostname or "", url.port or _DEFAULT_PORTS.get(url.scheme, 443)
    through = urllib.parse.urlsplit(proxy) if proxy else None
    first_host, first_port = (through.hostname or "", through.port or 3128) if through else (host, port)
    if url.scheme == "http":
        return http.client.HTTPConnection(first_host, first_port, timeout=TIMEOUT_SECONDS)
    context = ssl.create_default_context()
    connection = http.client.HTTPSConnection(first_host, first_port, timeout=TIMEOUT_SECONDS, context=context)
    if through:
        connection.set_tunnel(host, port, headers=_proxy_login(proxy))
    return connection


def _proxy_login(proxy: str) -> dict[str, str]:
    url = urllib.parse.urlsplit(proxy)
    if not url.username:
        return {}
    user, password = urllib.parse.unquote(url.username), urllib.parse.unquote(url.password or "")
    return {"Proxy-Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def _origin(address: str) -> tuple[str, str]:
    url = urllib.parse.urlsplit(address)
    return url.scheme, url.netloc.rpartition("@")[2].lower()


def _why(error: Exception) -> str:
    """The kind of an error, and what the system says of it."""
    reason = error.strerror if isinstance(error, OSError) else None
    return type(error).__name__ + (f": {reason}" if reason else "")
