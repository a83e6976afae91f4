# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection gpufleet.vllm.
"""Questions to a running server over HTTP. Every answer is a value; a server that does not answer is an answer too.

The standard library's plain client asks: it costs little, and no proxy of the environment sees what is asked of this
host.
"""

from __future__ import annotations

import http.client
import io
import json
import ssl
import typing as t
import wave

# Seconds. /health answers from the API process at once; a first request may compile kernels, on a CPU also slowly.
HEALTH_SECONDS = 3
ANSWER_SECONDS = 10
REQUEST_SECONDS = 300

# X509_V_FLAG_PARTIAL_CHAIN of OpenSSL (include/openssl/x509_vfy.h); Python names it from 3.10 on.
_PARTIAL_CHAIN = 0x80000

# What one real request of a kind of server is: routes and fields of vLLM 0.6.0 to 0.33.0 (the catalogue's routes.json;
# entrypoints/openai/protocol.py, then entrypoints/pooling/*/protocol.py). The texts are short, so that they fit any
# length that a server may have. Transcription exists from 0.7.3 on, /rerank from 0.7.0, /classify from 0.9.0.
_REQUESTS: dict[str, tuple[str, dict[str, t.Any]]] = {
    "generate": ("/v1/completions", {"prompt": "Hello", "max_tokens": 1}),
    "chat": ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1}),
    "embed": ("/v1/embeddings", {"input": "Hello"}),
    "pooling": ("/pooling", {"input": "Hello"}),
    "classify": ("/classify", {"input": "Hello"}),
    "score": ("/score", {"text_1": "Hello", "text_2": "Hello"}),
    "rerank": ("/rerank", {"query": "Hello", "documents": ["Hello"]}),
    "transcribe": ("/v1/audio/transcriptions", {}),
}
KINDS = tuple(_REQUESTS)
# What is transcribed: a fifth of a second of silence, 16 bit at 16 kHz.
_SILENCE_FRAMES = 3200
_RATE = 16000
_BOUNDARY = "gpufleet-vllm-probe"


class Answer(t.NamedTuple):
    """status: HTTP status, or 0 when nothing answered; body: text; why: the reason when nothing answered."""

    status: int
    body: str
    why: str = ""

    @property
    def is_stranger(self) -> bool:
        """Whether somebody answered with a certificate that is not the server's; that does not pass by waiting."""
        return self.why.startswith(ssl.SSLCertVerificationError.__name__)

    def __str__(self) -> str:
        hint = " Does it need an API key? It belongs in the model's secrets.api_key." if self.status == 401 else ""
        return f"{self.status or 'nothing'}: {(self.why or self.body)[:300]}{hint}"


class Server(t.NamedTuple):
    """Where a server listens. An unspecified address is asked over loopback.

    certificate: file on this host with the certificate that it must show, or with those of who signed it; None for a
    server without TLS.
    """

    address: str
    port: int
    api_key: str | None = None
    certificate: str | None = None

    @property
    def host(self) -> str:
        """The address at which it can be asked from its own host."""
        return {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.address, self.address)

    @property
    def url(self) -> str:
        """The beginning of its URLs."""
        scheme = "http" if self.certificate is None else "https"
        return f"{scheme}://[{self.host}]:{self.port}" if ":" in self.host else f"{scheme}://{self.host}:{self.port}"


def get(server: Server, path: str, timeout: float = ANSWER_SECONDS) -> Answer:
    """GET a path; timeout in seconds."""
    return _ask("GET", server, path, None, None, timeout)


def healthy(server: Server, timeout: float = HEALTH_SECONDS) -> bool:
    """Whether /health answers 200 within so many seconds."""
    return get(server, "/health", timeout).status == 200


def answers(server: Server, timeout: float = HEALTH_SECONDS) -> bool:
    """Whether it can be asked: /health answers 200, or somebody answers with a certificate that is not the server's.

    The second does not pass by waiting, and is told by the first question.
    """
    answer = get(server, "/health", timeout)
    return answer.status == 200 or answer.is_stranger


def model_problem(
    server: Server, served_names: t.Sequence[str], max_model_len: int | None, adapters: t.Sequence[str] = ()
) -> str | None:
    """None when /v1/models lists what is wanted and no other base model, else what it lists instead.

    adapters: the names of the LoRA adapters that it must list too; it may list others, for they can be added later.
    """
    answer = get(server, "/v1/models")
    if answer.status != 200:
        return f"/v1/models answered {answer}"
    try:
        cards = {card["id"]: card for card in decoded(answer)["data"]}
        # An adapter's card names the model that it is of as its parent.
        found = {name: card.get("max_model_len") for name, card in cards.items() if not card.get("parent")}
    except (KeyError, TypeError, AttributeError):
        return f"/v1/models answered something that is no list of models: {answer.body[:200]}"
    if set(served_names) != set(found):
        return f"it serves {', '.join(sorted(found)) or 'no model'}, not {', '.join(served_names)}"
    missing = [name for name in adapters if not (cards.get(name) or {}).get("parent")]
    if missing:
        others = ", ".join(sorted(set(cards) - set(found))) or "none"
        return f"it serves the adapters {others}, and not {', '.join(missing)}"
    wrong = [name for name in served_names if max_model_len and found[name] not in (None, max_model_len)]
    if wrong:
        return f"it serves {wrong[0]} with max_model_len {found[wrong[0]]}, not {max_model_len}"
    return None


def decoded(answer: Answer) -> dict[str, t.Any]:
    """The JSON object of an answer; empty when it holds none."""
    try:
        value = json.loads(answer.body)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def request(server: Server, kind: str, served_name: str, timeout: float) -> Answer:
    """The answer to one real request of a kind; timeout in seconds."""
    path, fields = _REQUESTS[kind]
    if kind == "transcribe":
        return _ask("POST", server, path, _form(served_name), f"multipart/form-data; boundary={_BOUNDARY}", timeout)
    body = json.dumps(dict(fields, model=served_name)).encode()
    return _ask("POST", server, path, body, "application/json", timeout)


def request_problem(server: Server, kind: str, served_name: str) -> str | None:
    """None when one real request of the server's kind is answered, else how it failed."""
    answer = request(server, kind, served_name, REQUEST_SECONDS)
    return None if answer.status == 200 else f"a request to {_REQUESTS[kind][0]} was answered {answer}"


def cards(server: Server) -> list[dict[str, t.Any]] | None:
    """What /v1/models lists: name, max_model_len, and of an adapter the model that it is of.

    None when it lists nothing, or wants a key that is not known.
    """
    answer = get(server, "/v1/models")
    found = decoded(answer).get("data") if answer.status == 200 else None
    if not isinstance(found, list):
        return None
    return [
        {"name": str(card["id"]), "max_model_len": card.get("max_model_len"), "adapter_of": card.get("parent")}
        for card in found
        if isinstance(card, dict) and card.get("id")
    ]


def _form(served_name: str) -> bytes:
    """A form with the model's name and a WAV file of silence."""
    sound = io.BytesIO()
    with wave.open(sound, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(_RATE)
        file.writeframes(b"\0\0" * _SILENCE_FRAMES)
    head = f"--{_BOUNDARY}\r\nContent-Disposition: form-data; name="
    parts = [
        f'{head}"model"\r\n\r\n{served_name}\r\n'.encode(),
        f'{head}"file"; filename="silence.wav"\r\nContent-Type: audio/wav\r\n\r\n'.encode() + sound.getvalue(),
        f"\r\n--{_BOUNDARY}--\r\n".encode(),
    ]
    return b"".join(parts)


def _ask(method: str, server: Server, path: str, body: bytes | None, kind: str | None, timeout: float) -> Answer:
    """kind: the content type of the body."""
    headers = {"Authorization": "Bearer " + server.api_key} if server.api_key else {}
    if kind is not None:
        headers["Content-Type"] = kind
    connection: http.client.HTTPConnection | None = None
    try:
        connection = _connection(server, timeout)
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return Answer(answer.status, answer.read().decode("utf-8", "replace"))
    # ValueError: a key with a line end, or a host that is no host
    except (OSError, http.client.HTTPException, ValueError) as error:
        return Answer(0, "", f"{type(error).__name__}: {error}")
    finally:
        if connection is not None:
            connection.close()


def _connection(server: Server, timeout: float) -> http.client.HTTPConnection:
    if server.certificate is None:
        return http.client.HTTPConnection(server.host, server.port, timeout=timeout)
    return http.client.HTTPSConnection(server.host, server.port, timeout=timeout, context=_context(server))


def _context(server: Server) -> ssl.SSLContext:
    """Trusts what is in the server's file and nothing else. Raises OSError when it must be read and cannot."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # Certificates are for the names by which clients know the server, and here it is asked by its address.
    context.check_hostname = False
    try:
        context.load_verify_locations(server.certificate)
    except OSError:
        # Who may not read the files of the secrets may still ask how a server is. A key is sent to nobody unknown.
        if server.api_key:
            raise
        context.verify_mode = ssl.CERT_NONE
    # The file may hold the server's own certificate, which need not have signed itself.
    context.verify_flags |= ssl.VerifyFlags(_PARTIAL_CHAIN)
    return context
