# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs inside the engine's image: does vLLM take these arguments? JSON lists of arguments in, one verdict a line out.

What `vllm serve` does before it starts an engine is done here for each: parse, check the parsed arguments, make the
configuration. A verdict is null, or why not.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import sys


def verdict(arguments: list[str]) -> str | None:
    """None, or why vLLM refuses the arguments."""
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.entrypoints.cli.serve import cmd_init
    from vllm.entrypoints.openai.api_server import validate_api_server_args
    from vllm.usage.usage_lib import UsageContext
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    root = FlexibleArgumentParser(prog="vllm")
    (serve,) = cmd_init()
    serve.subparser_init(root.add_subparsers())
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            parsed = root.parse_args(["serve", *arguments])
            parsed.model = getattr(parsed, "model_tag", None) or parsed.model
            serve.validate(parsed)
            validate_api_server_args(parsed)
            AsyncEngineArgs.from_cli_args(parsed).create_engine_config(UsageContext.OPENAI_API_SERVER)
    except (Exception, SystemExit) as error:
        return said.getvalue() if isinstance(error, SystemExit) else f"{type(error).__name__}: {error}"
    return None


def main() -> None:
    """Judge every list of arguments on standard input."""
    logging.disable(logging.CRITICAL)
    lists = json.load(sys.stdin)
    verdict(["model", "--no-such-option"])  # imports all that the children need
    for arguments in lists:
        # A process for each, for defaults are objects that one sample would change for the next.
        child = os.fork()
        if not child:
            print("VERDICT", json.dumps(verdict(arguments)), flush=True)
            os._exit(0)
        os.waitpid(child, 0)


main()
