#!/usr/bin/env bash
# asyncio of CPython 3.11 to 3.13: a new event loop keeps the context variables of whoever makes it for as long as it
# lives, though nothing has run in it. BaseSelectorEventLoop registers its self-pipe in the constructor, and the handle
# takes a copy of the current context. So a loop that is made for a background thread, in the middle of a request, keeps
# that request alive for good: make it by contextvars.Context().run(...).
#
# Ends with an error if that is no longer so with the python3 that is there. Installs nothing.
set -euo pipefail

python3 - <<'PYTHON'
import asyncio
import contextvars
import gc
import sys
import weakref

variable = contextvars.ContextVar("variable")


class Request:
    pass


def make(run):
    request = Request()
    variable.set(request)
    return run(asyncio.SelectorEventLoop), weakref.ref(request)


def call(function):
    return function()


def is_kept(run):
    loop, reference = contextvars.Context().run(make, run)
    gc.collect()
    kept = reference() is not None
    loop.close()
    return kept


here, elsewhere = is_kept(call), is_kept(contextvars.Context().run)
print(f"Python {sys.version.split()[0]}: the maker's context is kept: {here}; made in an empty context: {elsewhere}")
if (here, elsewhere) != (True, False):
    sys.exit("NOT as written above")
print("as written above")
PYTHON
