# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask a running server one question through the OpenAI API, and show its answer and a few of its metrics.

    python tools/ask.py URL MODEL

Standard library only, so that any Python runs it.
"""

from __future__ import annotations

import json
import sys
import urllib.request

METRICS = ("vllm:prompt_tokens_total", "vllm:generation_tokens_total", "vllm:num_requests_running")
SECONDS = 120


def fetch(url: str, body: dict[str, object] | None = None) -> str:
    """The text of an answer; raises urllib.error.URLError when there is none."""
    data = json.dumps(body).encode() if body else None
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    # A proxy of the environment has no business with a server on this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=SECONDS) as answer:
        return answer.read().decode()


def main(url: str, model: str) -> None:
    """Ask and print."""
    body = {"model": model, "messages": [{"role": "user", "content": "Hello, who are you?"}], "max_tokens": 16}
    answer = json.loads(fetch(f"{url}/v1/chat/completions", body))
    print(f"POST {url}/v1/chat/completions")
    print(f"  question: {body['messages'][0]['content']}")
    print(f"  answer:   {answer['choices'][0]['message']['content']!r}   (random weights have nothing to say)")
    print(f"  tokens:   {answer['usage']['prompt_tokens']} in, {answer['usage']['completion_tokens']} out")
    print(f"GET {url}/metrics")
    for line in fetch(f"{url}/metrics").splitlines():
        if line.startswith(METRICS):
            print(f"  {line}")


if __name__ == "__main__":
    main(*sys.argv[1:3])
