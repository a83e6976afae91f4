# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Questions to a server, asked of real HTTP servers on this machine."""

from __future__ import annotations

import contextlib
import http.server
import io
import json
import pathlib
import ssl
import subprocess
import threading
import typing as t
import wave

import pytest

from ansible_collections.gpufleet.vllm.plugins.module_utils._probe import endpoint as probe


@contextlib.contextmanager
def serving(
    answers: dict[str, tuple[int, str]], key: str | None = None, tls: ssl.SSLContext | None = None
) -> t.Iterator[probe.Server]:
    """A server that gives these answers by path, to those who have the key."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("content-length") or 0))
            status, body = answers.get(self.path, (404, "not here"))
            if key is not None and self.headers.get("authorization") != f"Bearer {key}":
                status, body = 401, "Unauthorized"
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        do_GET = do_POST = answer

        def log_message(self, *_arguments: t.Any) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls is not None:
        # The handshake is made where the request is read, in a thread of its own.
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield probe.Server("127.0.0.1", server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder with a CA, a certificate signed by it for a name that nobody here has, and one of another CA."""
    folder = tmp_path_factory.mktemp("tls")
    new = ["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    for name in ("ca", "other"):
        own = ["-x509", "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.crt"]
        subprocess.run([*new, *own], cwd=folder, check=True, capture_output=True)
    ask = [part for part in new if part not in ("-days", "2")]
    subprocess.run(
        [*ask, "-subj", "/CN=llm.example", "-keyout", "own.key", "-out", "own.csr"],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    sign = ["openssl", "x509", "-req", "-in", "own.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial"]
    subprocess.run([*sign, "-days", "2", "-out", "own.crt"], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.mark.parametrize(
    ("trusted", "key", "status", "why"),
    [
        ("own.crt", "k", 200, ""),
        ("ca.crt", "k", 200, ""),
        ("other.crt", "k", 0, "CERTIFICATE_VERIFY_FAILED"),
        ("none.crt", "k", 0, "FileNotFoundError"),
        ("none.crt", None, 200, ""),
    ],
)
def test_a_server_with_tls_is_known_by_its_certificate(
    certificates: pathlib.Path, trusted: str, key: str | None, status: int, why: str
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "own.crt", certificates / "own.key")
    with serving({"/health": (200, "")}, key, context) as plain:
        server = plain._replace(api_key=key, certificate=str(certificates / trusted))
        assert server.url == f"https://127.0.0.1:{plain.port}"
        answer = probe.get(server, "/health")
        assert (answer.status, why in answer.why) == (status, True)
        if status == 200:
            assert probe.get(plain, "/health").status == 0


def models(*cards: dict[str, t.Any]) -> str:
    return json.dumps({"data": list(cards)})


BASE = {"id": "a", "max_model_len": 512, "parent": None}
MODELS = [
    ("as wanted", models(BASE), ["a"], 512, None),
    ("no length asked for", models(BASE), ["a"], None, None),
    ("no length told", models({"id": "a"}), ["a"], 512, None),
    ("with an adapter", models(BASE, {"id": "lora", "parent": "a"}), ["a"], 512, None),
    ("two names", models(BASE, {**BASE, "id": "b"}), ["b", "a"], 512, None),
    ("another name", models(BASE), ["b"], 512, "it serves a, not b"),
    ("one name too few", models(BASE), ["a", "b"], 512, "it serves a, not a, b"),
    ("one name too many", models(BASE, {"id": "b"}), ["a"], 512, "it serves a, b, not a"),
    ("nothing", models(), ["a"], 512, "it serves no model, not a"),
    ("another length", models(BASE), ["a"], 1024, "it serves a with max_model_len 512, not 1024"),
    ("no list", "[1]", ["a"], 512, "no list of models: [1]"),
    ("no JSON", "<html>", ["a"], 512, "no list of models: <html>"),
]


@pytest.mark.parametrize(("body", "names", "length", "expected"), [m[1:] for m in MODELS], ids=[m[0] for m in MODELS])
def test_models(body: str, names: list[str], length: int | None, expected: str | None) -> None:
    with serving({"/v1/models": (200, body)}) as server:
        problem = probe.model_problem(server, names, length)
    assert problem is None if expected is None else expected in str(problem)


def test_a_key_is_asked_for_and_given() -> None:
    with serving({"/v1/models": (200, models(BASE))}, key="k") as server:
        assert "secrets.api_key" in str(probe.model_problem(server, ["a"], None))
        assert probe.model_problem(server._replace(api_key="k"), ["a"], None) is None
        assert "ValueError" in probe.get(server._replace(api_key="k\nX: y"), "/").why


PATHS = {
    "generate": "/v1/completions",
    "chat": "/v1/chat/completions",
    "embed": "/v1/embeddings",
    "pooling": "/pooling",
    "classify": "/classify",
    "score": "/score",
    "rerank": "/rerank",
    "transcribe": "/v1/audio/transcriptions",
}


def test_every_kind_has_its_path() -> None:
    assert set(PATHS) == set(probe.KINDS)


@pytest.mark.parametrize(("kind", "path"), PATHS.items())
def test_requests(kind: str, path: str) -> None:
    with serving({path: (200, "{}")}) as server:
        assert probe.request_problem(server, kind, "a") is None
    with serving({path: (400, "no tokenizer")}) as server:
        assert probe.request_problem(server, kind, "a") == f"a request to {path} was answered 400: no tokenizer"
    assert "nothing: ConnectionRefusedError" in str(probe.request_problem(server, kind, "a"))


def test_health(monkeypatch: pytest.MonkeyPatch) -> None:
    # What the environment says of proxies is not for servers of this host.
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with serving({"/health": (200, "")}) as server:
        assert probe.healthy(server)
    assert not probe.healthy(server)
    with serving({"/health": (503, "")}) as server:
        assert not probe.healthy(server)


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:1"),
        ("0.0.0.0", "http://127.0.0.1:1"),
        ("", "http://127.0.0.1:1"),
        ("10.0.0.5", "http://10.0.0.5:1"),
        ("::", "http://[::1]:1"),
        ("fd00::1", "http://[fd00::1]:1"),
    ],
)
def test_urls(address: str, url: str) -> None:
    assert probe.Server(address, 1).url == url


def test_adapters() -> None:
    listed = models(BASE, {"id": "one", "parent": "a"}, {"id": "two", "parent": "a"})
    with serving({"/v1/models": (200, listed)}) as server:
        assert probe.model_problem(server, ["a"], 512, ["two"]) is None
        problem = probe.model_problem(server, ["a"], 512, ["two", "three"])
        assert problem == "it serves the adapters one, two, and not three"
        assert probe.cards(server)[1] == {"name": "one", "max_model_len": None, "adapter_of": "a"}
    with serving({"/v1/models": (200, "{}")}) as server:
        assert probe.cards(server) is None
    with serving({"/v1/models": (401, "")}) as server:
        assert probe.cards(server) is None


def test_a_transcription_is_asked_for_with_a_real_sound_file() -> None:
    form = probe._form("whisper")
    assert b'name="model"\r\n\r\nwhisper\r\n' in form
    sound = form[form.index(b"RIFF") : form.rindex(b"\r\n--")]
    with wave.open(io.BytesIO(sound)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getnframes()) == (16000, 1, 3200)
