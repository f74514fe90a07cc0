"""The examination of one layer, step by step; what fails ends it, as the steps after it would only fail as well."""

import secrets
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing
from functools import partial
from typing import Any

from asgiref.sync import async_to_sync
from channels.exceptions import ChannelFull
from django.core.checks import CheckMessage

from channels_trunk.checks import check_layer, check_migrations
from channels_trunk.exceptions import ChannelLayerError, TransportUnavailable
from channels_trunk.findings import Finding, Level, fault
from channels_trunk.layers.base import TrunkChannelLayer

from .child import ask_child

__all__ = ["examine"]

_MOST_PEERS = 20
_CHECK_ERROR = 40  # the level of django.core.checks.ERROR
MakeLayer = Callable[[], TrunkChannelLayer]


def examine(alias: str, make_layer: MakeLayer, *, within: float) -> Iterator[Finding]:
    """Yield what is found about a layer, good news among it; the first error is the last finding.

    `make_layer` makes another object of the layer each time; `within` is how long a message may take, in seconds.
    """
    with closing(_examine_all(alias, make_layer, within)) as findings:
        for finding in findings:
            yield finding
            if finding.level is Level.ERROR:
                return


def _examine_all(alias: str, make_layer: MakeLayer, within: float) -> Generator[Finding]:
    yield from _as_findings(check_layer(alias), otherwise="the settings are in order")
    with ExitStack() as stack:
        first, second = make_layer(), make_layer()
        for layer in (first, second):
            stack.callback(layer.sync.close)
        yield from _as_findings(check_migrations(alias), level=Level.ERROR)
        yield from first.examine()
        yield from _open(first)
        yield from _round_trip(first, second, within)
        yield from _ask_peers(first, second)
        yield from _cross(alias, first, within)
        yield from _count_skipped(first, second)


def _as_findings(messages: list[CheckMessage], *, otherwise: str = "", level: Level | None = None) -> Iterator[Finding]:
    for message in messages:
        as_said = Level.ERROR if message.level >= _CHECK_ERROR else Level.WARNING
        yield Finding(level=level or as_said, code=str(message.id), text=str(message.msg), remedy=message.hint or "")
    if otherwise and not messages:
        yield Finding(level=Level.OK, code="settings", text=otherwise)


def _open(layer: TrunkChannelLayer) -> Iterator[Finding]:
    """Have the layer itself open its engine."""
    try:
        layer.sync.new_channel()
    except TransportUnavailable as error:
        detail = layer.health().detail
        text = str(error) if detail in str(error) else f"{error}: {detail}"
        yield fault("engine-away", text, "See that the engine runs and takes connections and writes from here.")
    except ChannelLayerError as error:
        yield fault("engine-refused", str(error), "Mend what the message names.")
    else:
        yield Finding(level=Level.OK, code="engine", text="the engine is reached")


def _round_trip(first: TrunkChannelLayer, second: TrunkChannelLayer, within: float) -> Iterator[Finding]:
    """Through the engine: two layer objects are two nodes, as two processes are."""
    token = secrets.token_hex(8)
    message: dict[str, Any] = {"type": "trunk.doctor", "token": token}
    queue, group = f"trunk-doctor-{token}", f"trunk-doctor-{token}"
    try:
        channel = first.sync.new_channel()
        first.sync.group_add(group, channel)
        sent = [
            ("a channel of another node", channel, partial(second.sync.send, channel, message)),
            ("a group with members at another node", channel, partial(second.sync.group_send, group, message)),
            ("a normal channel", queue, partial(second.sync.send, queue, message)),
        ]
        for what, name, send in sent:
            send()
            try:
                received = first.sync.receive(name, timeout=within)
            except TimeoutError:
                yield fault(
                    "no-round-trip",
                    f"a message to {what} did not arrive within {within:g} s",
                    "See the log of this command: what was skipped, dropped or trimmed is said there. A clock that "
                    "was set, or an 'expiry' that is very short, does this, too.",
                )
                return
            if received != message:
                yield fault(
                    "altered", f"a message to {what} arrived altered", "Set 'serializer_format' to its default."
                )
                return
    except (ChannelLayerError, ChannelFull) as error:
        yield fault("engine-away", str(error), "The engine went away during the examination; examine it again.")
        return
    yield Finding(level=Level.OK, code="round-trip", text="messages go through the engine and come back")


def _ask_peers(first: TrunkChannelLayer, second: TrunkChannelLayer) -> Iterator[Finding]:
    """Every other process has to answer a question that changes nothing."""
    try:
        peers = sorted(async_to_sync(first.peers)() - {second.stats().node})
    except ChannelLayerError as error:
        yield fault("engine-away", str(error), "The engine went away during the examination; examine it again.")
        return
    for peer in peers[:_MOST_PEERS]:
        try:
            first.sync.group_discard("trunk-doctor", f"trunk-doctor.{peer}!0")
        except ChannelLayerError:
            # What it sends itself tells more, if there was something.
            yield from _count_skipped(first, second)
            yield Finding(
                level=Level.ERROR,
                code="peer-silent",
                text=f"the process with the node {peer} takes part with the prefix {first.prefix!r}, and does not "
                "answer",
                remedy="Give it the same 'symmetric_encryption_keys', or a 'prefix' of its own if it is of another "
                "application; if it was stopped or stands still, end it or let it go on.",
            )
            return
    # Of one that was killed, the engine may know until somebody waits for it in vain.
    if answering := _still_there(first, peers):
        yield Finding(level=Level.OK, code="peers", text=f"other processes that take part: {answering}; they answer")


def _still_there(layer: TrunkChannelLayer, peers: list[str]) -> int:
    try:
        return len(async_to_sync(layer.peers)() & set(peers)) if peers else 0
    except ChannelLayerError:
        return 0  # the next step says so


def _cross(alias: str, layer: TrunkChannelLayer, within: float) -> Iterator[Finding]:
    if layer.crosses_processes:
        yield from ask_child(alias, layer, within=within)
    else:
        yield Finding(
            level=Level.OK,
            code="one-process",
            text="messages of this layer stay in their process, so that no child process is asked",
        )


def _count_skipped(*layers: TrunkChannelLayer) -> Iterator[Finding]:
    skipped = sum(layer.stats().skipped_frames_total for layer in layers)
    if skipped:
        yield Finding(
            level=Level.ERROR,
            code="keys-differ",
            text=f"{skipped} frames came with the prefix {layers[0].prefix!r} that could not be opened: another "
            f"process has other keys, or its version is newer",
            remedy="Give all layers with one prefix the same 'symmetric_encryption_keys', or each its own 'prefix'.",
        )
