# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A stand-in for `vllm serve`: vLLM 0.32's start-up log, endpoints and metrics, and no model.

It says that it is a stand-in in its first log line, in /version and in the header `server`. Its log lines, answers and
metric names follow those of vLLM 0.32.0's CPU build, recorded from runs of it. STAND_IN_* variables give it faults: see
README.md.
"""

from __future__ import annotations

import json
import os
import signal
import ssl
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from typing import Any
from urllib.parse import urlsplit

VERSION = version("vllm")
STAGES = ("arguments", "config", "engine", "weights", "kv_cache", "warmup", "serve")
MIB = 2**20
# The paths that need the key: GUARDED_PREFIX in vllm/entrypoints/serve/middleware/authenticate.py of 0.32.0.
GUARDED = ("/v1", "/v2", "/inference", "/cohere")
FREEZE = threading.Event()
DEAD = threading.Event()


def fault(name: str, default: str = "") -> str:
    """The value of STAND_IN_<name>, or its default."""
    return os.environ.get(f"STAND_IN_{name}", default)


# Requests that the engine works on at the same time; others wait.
SEATS = threading.Semaphore(int(fault("SEATS", "256")))


# --- command line ---------------------------------------------------------------------------------------------------
def parse(argv: list[str]) -> dict[str, Any]:
    """`vllm serve`'s arguments as vLLM names them: any option is taken, as `--a b`, `--a=b` or a bare switch."""
    options: dict[str, Any] = {}
    rest = list(argv)
    if rest and not rest[0].startswith("-"):
        options["model_tag"] = options["model"] = rest.pop(0)
    while rest:
        word = rest.pop(0)
        name, has_value, value = word.lstrip("-").partition("=")
        key = name.replace("-", "_")
        if has_value:
            options[key] = value
        elif rest and not rest[0].startswith("--"):
            options[key] = rest.pop(0)
            if key == "served_model_name":  # takes several names
                names = [options[key]]
                while rest and not rest[0].startswith("-"):
                    names.append(rest.pop(0))
                options[key] = names
        else:
            options[key] = True
    options.setdefault("model", "Qwen/Qwen3-0.6B")
    return options


def refused(argv: list[str]) -> list[str]:
    """The given options that STAND_IN_REFUSE_FLAGS lists."""
    listed = fault("REFUSE_FLAGS").split()
    return [word for word in argv if word.split("=")[0] in listed]


# --- log ------------------------------------------------------------------------------------------------------------
def log(line: str) -> None:
    """One line as it is."""
    print(line, file=sys.stderr, flush=True)


def say(process: str, source: str, text: str, level: str = "INFO") -> None:
    """One line in vLLM's format."""
    pid = {"APIServer": 1, "EngineCore": 25, "Worker": 36}[process]
    log(f"({process} pid={pid}) {level} {time.strftime('%m-%d %H:%M:%S')} [{source}] {text}")


def stage_lines(stage: str, options: dict[str, Any]) -> list[tuple[str, str, str]]:
    """What the engine says in a stage: process, source, text. A line of no process stands in the log as it is."""
    model = options["model"]
    shown = {key: "***" if key in ("api_key", "hf_token") else value for key, value in options.items()}
    length = int(options.get("max_model_len", 1024)) if str(options.get("max_model_len", 1024)).isdigit() else 1024
    tokens = 2097152
    asked = str(options.get("kv_cache_memory_bytes", ""))
    kv_memory = (
        f"Explicitly set ({round(int(asked) / 2**30, 2)}/16.21) GiB for KV cache on node 0."
        if asked.isdigit()
        else "Auto set (1.3/16.21) GiB for KV cache on node 0, with 1.83 GiB requested memory for the worker. 0.53 GiB "
        "memory was consumed by non-kv usages."
    )
    concurrency = f"Maximum concurrency for {length:,} tokens per request: {tokens / length:.2f}x"
    address = f"http://{options.get('host', '0.0.0.0')}:{options.get('port', 8000)}"
    return {
        "arguments": [
            ("APIServer", "api_utils.py:347", f" ▄▄ ▄█ █     █     █ ▀▄▀ █  version {VERSION}"),
            ("APIServer", "api_utils.py:347", f"   █▄█▀ █     █     █     █  model   {model}"),
            ("APIServer", "api_utils.py:286", f"non-default args: {shown}"),
        ],
        "config": [
            ("APIServer", "model.py:733", "Resolved architecture: Qwen3ForCausalLM"),
            ("APIServer", "model.py:2152", f"Using max model len {length}"),
        ],
        "engine": [
            ("EngineCore", "core.py:133", f"Initializing a V1 LLM engine (v{VERSION}) with config: model='{model}'"),
            ("Worker", "parallel_state.py:1906", "world_size=1 rank=0 local_rank=0 backend=gloo"),
        ],
        "weights": [
            ("Worker", "cpu_model_runner.py:68", f"Starting to load model {model}..."),
            ("", "", "Loading safetensors checkpoint shards:   0% Completed | 0/1 [00:00<?, ?it/s]"),
            ("", "", "Loading safetensors checkpoint shards: 100% Completed | 1/1 [00:00<00:00, 154.23it/s]"),
            ("Worker", "default_loader.py:501", "Loading weights took 0.01 seconds"),
        ],
        "kv_cache": [
            ("Worker", "cpu_worker.py:260", kv_memory),
            ("EngineCore", "kv_cache_utils.py:2327", f"CPU KV cache size: {tokens:,} tokens, {concurrency}"),
        ],
        "warmup": [
            ("EngineCore", "core.py:402", "init engine (profile, create kv cache, warmup model) took 1.46 s"),
            ("APIServer", "entry.py:136", "Supported tasks: ['generate', 'embed']"),
        ],
        "serve": [
            ("APIServer", "entry.py:140", f"Starting vLLM server on {address}"),
            ("APIServer", "launcher.py:195", "Route: /health, Methods: GET"),
        ],
    }[stage]


def die() -> None:
    """End as STAND_IN_DIE_* says."""
    if fault("DIE_LOG"):
        with open(fault("DIE_LOG"), encoding="utf-8") as text:
            log(text.read().rstrip("\n"))
    if fault("DIE_TEXT"):
        log(fault("DIE_TEXT"))
    sys.exit(int(fault("DIE_CODE", "1")))


def start(options: dict[str, Any]) -> None:
    """Go through the stages, each after its share of STAND_IN_START_SECONDS, with the faults asked for."""
    pause = float(fault("START_SECONDS", "2")) / len(STAGES)
    for stage in STAGES:
        if fault("DIE_AT") == stage:
            die()
        while fault("STALL_AT") == stage:
            time.sleep(3600)
        for process, source, text in stage_lines(stage, options):
            if process:
                say(process, source, text)
            else:
                log(text)
        if stage == "weights":
            burst(int(fault("LOG_BURST", "0")))
            work_silently(float(fault("SILENT_SECONDS", "0")))
        time.sleep(pause)


def burst(mib: int) -> None:
    """Write so many MiB of different lines as fast as the log takes them."""
    for number in range(mib * MIB // 128):
        sys.stderr.write(f"(Worker pid=36) DEBUG burst {number:0110d}\n")


def work_silently(seconds: float) -> None:
    """Say nothing, and take 4 MiB of memory every 0.1 s, as an engine that loads does."""
    taken = []
    for _tenth in range(int(seconds * 10)):
        taken.append(bytearray(os.urandom(1024)) * (4 * 1024))
        time.sleep(0.1)


def flood(lines_per_second: int) -> None:
    """Fill the log."""
    number = 0
    while True:
        for _line in range(lines_per_second):
            number += 1
            say("APIServer", "stand_in.py:1", f"flood line {number} " + "x" * 120)
        time.sleep(1)


# --- metrics --------------------------------------------------------------------------------------------------------
class Metrics:
    """The engine's counters under the names of vLLM 0.32's /metrics; guarded by one lock."""

    BOUNDS = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5)  # seconds
    # Of each histogram what an answer of the stand-in takes, in seconds.
    TIMES = {
        "time_to_first_token_seconds": 0.001,
        "inter_token_latency_seconds": 0.0005,
        "e2e_request_latency_seconds": 0.03,
        "request_queue_time_seconds": 0.0,
    }

    def __init__(self, model: str) -> None:
        self.labels = f'engine="0",model_name="{model}"'
        self.lock = threading.Lock()
        self.running = 0
        self.waiting = 0
        self.asleep = False
        self.totals: Counter[str] = Counter()

    def begin(self) -> None:
        """A request waits for the engine, until it has a free seat."""
        with self.lock:
            self.waiting += 1
        SEATS.acquire()
        with self.lock:
            self.waiting -= 1
            self.running += 1

    def token(self) -> None:
        """A token was made."""
        with self.lock:
            self.totals["generated"] += 1

    def end(self, prompt: int, reason: str) -> None:
        """A request left the engine; tokens of its prompt."""
        with self.lock:
            self.running -= 1
            self.totals["prompt"] += prompt
            self.totals[reason] += 1
            self.totals["requests"] += 1
        SEATS.release()

    def text(self) -> str:
        """The page in Prometheus' text format."""
        with self.lock:
            running, waiting, totals = self.running, self.waiting, Counter(self.totals)
            awake = not self.asleep
        lines: list[str] = []

        def add(name: str, kind: str, meaning: str, samples: list[tuple[str, str, float]]) -> None:
            lines.extend([f"# HELP vllm:{name} {meaning}", f"# TYPE vllm:{name} {kind}"])
            for suffix, labels, value in samples:
                lines.append(f"vllm:{name}{suffix}{{{self.labels}{labels}}} {float(value)}")

        def gauge(name: str, meaning: str, value: float) -> None:
            add(name, "gauge", meaning, [("", "", value)])

        def counter(name: str, meaning: str, value: float) -> None:
            add(name, "counter", meaning, [("", "", value)])

        gauge("num_requests_running", "Number of requests in model execution batches.", running)
        gauge("num_requests_waiting", "Number of requests waiting to be processed.", waiting)
        gauge("kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage.", min(1.0, running / 256))
        states = {"awake": awake, "weights_offloaded": not awake, "discard_all": False}
        add(
            "engine_sleep_state",
            "gauge",
            "Engine sleep state.",
            [("", f',sleep_state="{name}"', value) for name, value in states.items()],
        )
        counter("prefix_cache_queries_total", "Prefix cache queries, in tokens.", totals["prompt"])
        counter("prefix_cache_hits_total", "Prefix cache hits, in tokens.", totals["prompt"] // 2)
        counter("num_preemptions_total", "Cumulative number of preemption from the engine.", 0)
        counter("prompt_tokens_total", "Number of prefill tokens processed.", totals["prompt"])
        counter("generation_tokens_total", "Number of generation tokens processed.", totals["generated"])
        add(
            "request_success_total",
            "counter",
            "Count of successfully processed requests.",
            [("", f',finished_reason="{reason}"', totals[reason]) for reason in ("stop", "length", "abort", "error")],
        )
        count = totals["requests"]
        for name, seconds in self.TIMES.items():
            buckets = [("_bucket", f',le="{bound}"', count if bound >= seconds else 0) for bound in self.BOUNDS]
            ends = [("_bucket", ',le="+Inf"', count), ("_count", "", count), ("_sum", "", count * seconds)]
            add(name, "histogram", f"Histogram of {name}.", [*buckets, *ends])
        return "\n".join(lines) + "\n"


# --- HTTP -----------------------------------------------------------------------------------------------------------
class Handler(BaseHTTPRequestHandler):
    """vLLM's endpoints."""

    protocol_version = "HTTP/1.1"
    keys: frozenset[str] = frozenset()
    served: tuple[str, ...] = ()
    root = ""
    max_model_len = 1024
    metrics: Metrics

    def version_string(self) -> str:
        """The header `server`."""
        return "vllm-stand-in"

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """The access log line of uvicorn, which vLLM serves with."""
        status = HTTPStatus(int(code))
        client = ":".join(map(str, self.client_address[:2]))
        log(f'INFO:     {client} - "{self.command} {self.path} HTTP/1.1" {status.value} {status.phrase}')

    def reply(self, code: int, body: object = None, kind: str = "application/json") -> None:
        """Send an answer; a body that is no text becomes JSON, none becomes an empty answer."""
        content = b"" if body is None else (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(code)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def error(self, code: int, message: str, kind: str, param: str | None = None) -> None:
        """vLLM's form of an error."""
        self.reply(code, {"error": {"message": message, "type": kind, "param": param, "code": code}})

    def allowed(self, path: str) -> bool:
        """Whether the request may pass; answers 401 when not. Only the paths that vLLM guards need a key."""
        scheme, _space, token = self.headers.get("authorization", "").partition(" ")
        if not self.keys or not path.startswith(GUARDED) or (scheme.lower() == "bearer" and token in self.keys):
            return True
        self.reply(401, {"error": "Unauthorized"})
        return False

    def do_GET(self) -> None:
        """Health, version, models, metrics."""
        path = urlsplit(self.path).path
        if not self.allowed(path):
            return
        if path in ("/health", "/ping"):
            self.reply(503 if DEAD.is_set() else 200)
        elif path == "/is_sleeping" and os.environ.get("VLLM_SERVER_DEV_MODE") == "1":
            self.reply(200, {"is_sleeping": self.metrics.asleep})
        elif path == "/version":
            self.reply(200, {"version": VERSION})
        elif path == "/load":
            self.reply(200, {"server_load": self.metrics.running})
        elif path == "/metrics":
            self.reply(200, self.metrics.text(), "text/plain; version=1.0.0; charset=utf-8")
        elif path == "/v1/models":
            created = int(time.time())
            card = {"object": "model", "created": created, "owned_by": "vllm", "root": self.root, "parent": None}
            card.update({"max_model_len": self.max_model_len, "permission": []})
            self.reply(200, {"object": "list", "data": [{"id": name, **card} for name in self.served]})
        else:
            self.reply(404, {"detail": "Not Found"})

    def do_POST(self) -> None:
        """Completions, chat completions, embeddings."""
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        path = urlsplit(self.path).path
        if not self.allowed(path):
            return
        if path in ("/sleep", "/wake_up") and os.environ.get("VLLM_SERVER_DEV_MODE") == "1":
            self.metrics.asleep = path == "/sleep"
            self.reply(200)
            return
        if path not in ("/v1/completions", "/v1/chat/completions", "/v1/embeddings"):
            self.reply(404, {"detail": "Not Found"})
            return
        try:
            request = json.loads(body)
        except ValueError:
            self.error(400, "the body is no JSON", "BadRequestError")
            return
        model = request.get("model") or self.served[0]
        if model not in self.served:
            aliases = ", ".join(self.served)
            self.error(404, f"The model `{model}` does not exist. Valid aliases: {aliases}.", "NotFoundError", "model")
            return
        if DEAD.is_set():
            self.error(500, "EngineCore encountered an issue. See stack trace for the root cause.", "EngineDeadError")
            return
        self.metrics.begin()
        while FREEZE.is_set() or self.metrics.asleep:
            time.sleep(0.1)
        if path == "/v1/embeddings":
            self.embed(model, request.get("input", ""))
        else:
            self.generate(model, request, chat=path == "/v1/chat/completions")

    def embed(self, model: str, given: object) -> None:
        """One vector for each text."""
        texts = given if isinstance(given, list) else [given]
        tokens = sum(len(str(text).split()) for text in texts)
        data = [{"index": i, "object": "embedding", "embedding": [1.0, 0.0, 0.0, 0.0]} for i in range(len(texts))]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens, "completion_tokens": 0}
        self.metrics.end(tokens, "stop")
        self.reply(200, {"id": "embd-stand-in", "object": "list", "model": model, "data": data, "usage": usage})

    def generate(self, model: str, request: dict[str, Any], chat: bool) -> None:
        """As many words as tokens were asked for (16 by default), in one answer or as a stream."""
        prompt = len(str(request.get("messages") if chat else request.get("prompt", "")).split())
        count = int(request.get("max_completion_tokens") or request.get("max_tokens") or 16)
        words = ["stand-in "] * count
        usage = {"prompt_tokens": prompt, "total_tokens": prompt + count, "completion_tokens": count}
        head = {
            "id": "chatcmpl-stand-in" if chat else "cmpl-stand-in",
            "object": "chat.completion" if chat else "text_completion",
            "created": int(time.time()),
            "model": model,
        }
        if not request.get("stream"):
            text = "".join(map(self.made, words))
            choice = {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
            self.metrics.end(prompt, "length")
            self.reply(200, {**head, "choices": [{"index": 0, **choice, "finish_reason": "length"}], "usage": usage})
            return
        if chat:
            head["object"] = "chat.completion.chunk"
        self.send_response(200)
        self.send_header("content-type", "text/event-stream; charset=utf-8")
        self.send_header("connection", "close")
        self.end_headers()
        for number, word in enumerate(words, 1):
            part = {"delta": {"content": self.made(word)}} if chat else {"text": self.made(word)}
            reason = "length" if number == count else None
            self.event({**head, "choices": [{"index": 0, **part, "finish_reason": reason}]})
        if (request.get("stream_options") or {}).get("include_usage"):
            self.event({**head, "choices": [], "usage": usage})
        self.metrics.end(prompt, "length")
        self.wfile.write(b"data: [DONE]\n\n")
        self.close_connection = True

    def made(self, word: str) -> str:
        """A token as the engine makes it: it takes STAND_IN_TOKEN_SECONDS, and for ever when the engine is frozen."""
        time.sleep(float(fault("TOKEN_SECONDS", "0")))
        while FREEZE.is_set():
            time.sleep(0.1)
        self.metrics.token()
        return word

    def event(self, content: dict[str, Any]) -> None:
        """One server-sent event."""
        self.wfile.write(f"data: {json.dumps(content)}\n\n".encode())


# --- life -----------------------------------------------------------------------------------------------------------
def stop(_signal: int, _frame: object) -> None:
    """SIGTERM: say so and end with exit code 0, as vLLM does."""
    if fault("IGNORE_SIGTERM"):
        return
    say("APIServer", "launcher.py:254", "[shutdown] API server: shutdown triggered")
    log("INFO:     Application shutdown complete.")
    os._exit(0)


def harmed(number: int, _frame: object) -> None:
    """SIGUSR1 freezes the engine, SIGUSR2 kills it while the server stays; the log says when it is so."""
    event, word = (FREEZE, "frozen") if number == signal.SIGUSR1 else (DEAD, "dead")
    event.set()
    log(f"stand-in: {word}")


def engine_dies() -> None:
    """The engine process dies after the start: vLLM's API server then ends with exit code 0."""
    exited = "[shutdown] MPClient: engine core exited unexpectedly; starting cleanup"
    say("APIServer", "core_client.py:817", exited, "WARNING")
    dead = "EngineDeadError: EngineCore encountered an issue. See stack trace (above) for the root cause."
    say("APIServer", "async_llm.py:906", f"vllm.v1.engine.exceptions.{dead}", "ERROR")
    log("INFO:     Application shutdown complete.")
    log("INFO:     Finished server process [1]")
    os._exit(0)


def after(seconds: str, action: Callable[[], None]) -> None:
    """Run an action some seconds after now, when seconds are given."""
    if seconds:
        timer = threading.Timer(float(seconds), action)
        timer.daemon = True
        timer.start()


def serve(options: dict[str, Any]) -> None:
    """Start as vLLM does, then answer until a signal or a fault ends it."""
    # As vLLM does: the port is taken at once, but nothing listens on it before the end of the start.
    address = (str(options.get("host", "0.0.0.0")), int(options.get("port", 8000)))
    server = ThreadingHTTPServer(address, Handler, bind_and_activate=False)
    server.daemon_threads = True
    server.server_bind()
    if options.get("ssl_certfile"):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(options["ssl_certfile"], options.get("ssl_keyfile"))
        # The handshake is made by the thread that reads the request, so nobody waits for a slow client.
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    start(options)
    names = options.get("served_model_name", [options["model"]])
    Handler.served = tuple([names] if isinstance(names, str) else names)
    Handler.root = options["model"]
    Handler.max_model_len = int(options["max_model_len"]) if str(options.get("max_model_len", "")).isdigit() else 1024
    Handler.keys = frozenset(filter(None, (options.get("api_key"), os.environ.get("VLLM_API_KEY"))))
    Handler.metrics = Metrics(Handler.served[0])
    server.server_activate()
    log("INFO:     Started server process [1]")
    log("INFO:     Waiting for application startup.")
    log("INFO:     Application startup complete.")
    after(fault("FREEZE_AFTER"), FREEZE.set)
    after(fault("EXIT_AFTER"), engine_dies)
    after(fault("DEAD_AFTER"), DEAD.set)
    server.serve_forever()


def main() -> None:
    """The command line `vllm`."""
    signal.signal(signal.SIGTERM, stop)  # process 1 of a container has no default for it
    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGUSR1, harmed)
    signal.signal(signal.SIGUSR2, harmed)
    if sys.argv[1:2] in (["--version"], ["-v"]):
        print(VERSION)
        return
    if sys.argv[1:2] != ["serve"]:
        sys.exit("the stand-in knows only: vllm serve, vllm --version")
    log(f"STAND-IN for vLLM {VERSION}: answers as vLLM does and computes nothing")
    if words := refused(sys.argv[2:]):
        log(f"vllm: error: unrecognized arguments: {' '.join(words)}")
        sys.exit(2)
    if fault("LOG_FLOOD"):
        threading.Thread(target=flood, args=(int(fault("LOG_FLOOD")),), daemon=True).start()
    serve(parse(sys.argv[2:]))


if __name__ == "__main__":
    main()
