"""A child process with the same settings: it has to get a message of ours, and we one of its."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from channels_trunk.exceptions import ChannelLayerError
from channels_trunk.findings import Finding, Level
from channels_trunk.layers.base import TrunkChannelLayer

__all__ = ["ask_child"]

_MODULE = "DJANGO_SETTINGS_MODULE"
# What starting the processes and asking for the time takes is no difference of clocks, nor is a step of NTP.
_SKEW = 1.0
_SIGNS_OFF_WITHIN = 2.0


def ask_child(alias: str, layer: TrunkChannelLayer, *, within: float) -> Iterator[Finding]:
    """Start the child, and exchange messages with it."""
    if not os.environ.get(_MODULE):
        yield Finding(
            level=Level.WARNING,
            code="child-not-asked",
            text=f"{_MODULE} is not set, so that no child process can have the same settings",
            remedy="Run the command by manage.py.",
        )
        return
    channel = layer.sync.new_channel()
    asked_at = time.time()
    with _start(alias, channel, within) as child:
        try:
            yield from _talk(child, layer, channel, asked_at, within)
        finally:
            _end(child)


def _end(child: "subprocess.Popen[str]") -> None:
    """Let it sign off, or others would count with it for a while."""
    with suppress(subprocess.TimeoutExpired):
        child.wait(_SIGNS_OFF_WITHIN)
    child.kill()


def _start(alias: str, channel: str, within: float) -> "subprocess.Popen[str]":
    paths = [path for path in sys.path if path]
    return subprocess.Popen(
        [sys.executable, "-m", f"{__package__}.answer", alias, channel, str(within)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        # What a project prints when it fails may hold anything: none of it is shown.
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )


def _talk(
    child: "subprocess.Popen[str]", layer: TrunkChannelLayer, channel: str, asked_at: float, within: float
) -> Iterator[Finding]:
    told = _next_word(child)
    heard_at = time.time()
    if "channel" not in told:
        yield _no_answer(child, told)
        return
    skew = max(asked_at - told["time"], told["time"] - heard_at, 0.0)
    if skew > _SKEW:
        level = Level.ERROR if skew >= min(layer.expiry, layer.group_expiry or layer.expiry) / 2 else Level.WARNING
        yield Finding(
            level=level,
            code="clock-skew",
            text=f"the clock of the child process differs by {skew:.0f} s from this one's; messages expire too early "
            f"or too late by as much",
            remedy="Set the clocks of all machines and containers by NTP, and do not change the time of a process.",
        )
    yield from _exchange(child, layer, told["channel"], channel, within)


def _exchange(
    child: "subprocess.Popen[str]", layer: TrunkChannelLayer, theirs: str, ours: str, within: float
) -> Iterator[Finding]:
    try:
        layer.sync.send(theirs, {"type": "trunk.doctor", "from": "parent"})
        told = _next_word(child)
        if "received" not in told:
            yield _no_answer(child, told)
            return
        layer.sync.receive(ours, timeout=within)
    except (ChannelLayerError, TimeoutError) as error:
        what = str(error) or f"its message did not arrive within {within:g} s"
        yield _error(f"a child process could not be talked with: {what}")
        return
    yield Finding(level=Level.OK, code="child", text="messages reach a child process, and its messages this one")


def _next_word(child: "subprocess.Popen[str]") -> dict[str, Any]:
    """What the child says next; nothing if it has ended. It ends by itself after a while, whatever happens."""
    assert child.stdout is not None
    for line in child.stdout:
        try:
            word = json.loads(line)
        except ValueError:
            continue  # the project's own
        if isinstance(word, dict) and word.get("trunk") == "doctor":
            return word
    return {}


def _no_answer(child: "subprocess.Popen[str]", told: dict[str, Any]) -> Finding:
    if told.get("error"):
        return _error(f"in a child process with the same settings: {told['error']}")
    child.wait()
    return _error(f"a child process with the same settings ended with the code {child.returncode} before it answered")


def _error(text: str) -> Finding:
    return Finding(
        level=Level.ERROR,
        code="child-unreached",
        text=text,
        remedy="See that settings, file system, network and rights are the same for every process: a path that is "
        "relative, a temporary folder or a host name of one process alone make layers of their own.",
    )
