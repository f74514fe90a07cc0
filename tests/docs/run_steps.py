"""Runs the Python of one page in one interpreter; code with `await` runs in one event loop that stays."""

import ast
import asyncio
import inspect
import json
import sys
from pathlib import Path
from typing import Any

import django


def run(code: str, *, place: tuple[str, int], namespace: dict[str, Any], runner: asyncio.Runner) -> None:
    """Run one piece; tracebacks show the page and its line."""
    page, line = place
    padded = "\n" * (line - 1) + code
    compiled = compile(padded, page, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    if compiled.co_flags & inspect.CO_COROUTINE:
        runner.run(_awaited(compiled, namespace))
    else:
        exec(compiled, namespace)


async def _awaited(compiled: Any, namespace: dict[str, Any]) -> None:
    await eval(compiled, namespace)


def main() -> None:
    """Run the steps in the file that the command line names."""
    django.setup()
    namespace: dict[str, Any] = {"__name__": "docs"}
    with asyncio.Runner() as runner:
        for page, line, code in json.loads(Path(sys.argv[1]).read_text()):
            run(code, place=(page, line), namespace=namespace, runner=runner)


if __name__ == "__main__":
    main()
