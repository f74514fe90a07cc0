"""`manage.py trunk_status`: how the layers' engines are, who takes part, and what waits."""

import json
from argparse import ArgumentParser
from collections.abc import Iterator
from typing import Any

import msgspec
from asgiref.sync import async_to_sync
from django.core.management.base import BaseCommand, CommandError

from channels_trunk.exceptions import ChannelLayerError
from channels_trunk.health import State
from channels_trunk.layers.base import TrunkChannelLayer
from channels_trunk.management.choosing import add_layer_option, known_aliases, new_layer
from channels_trunk.management.sizes import shown_size
from channels_trunk.names import printable
from channels_trunk.stats import Survey

__all__ = ["Command"]

_MOST_CHANNELS = 10


class _Status(msgspec.Struct, kw_only=True):
    """Of one layer."""

    layer: str
    backend: str
    prefix: str
    state: State
    detail: str = ""
    peers: list[str] | None = None
    survey: Survey | None = None


class Command(BaseCommand):
    """Looks from outside; the numbers of another process are that process's own."""

    help = "Show the state of layers: whether the engine is reached, which processes take part, what is stored."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        """The options."""
        add_layer_option(parser, default=None)
        parser.add_argument("--json", action="store_true", help="print JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print; the exit code is 1 if an engine is not reached."""
        if options["layer"] is not None:
            found = [_status(options["layer"], new_layer(options["layer"]))]
        else:
            found = list(_all_of_ours())
        if options["json"]:
            self.stdout.write(json.dumps(msgspec.to_builtins(found), indent=2))
        else:
            self.stdout.write("\n\n".join("\n".join(_lines(status)) for status in found))
        away = [status.layer for status in found if status.state is not State.OK]
        if away:
            raise CommandError(f"not reached: {', '.join(away)}")


def _all_of_ours() -> Iterator[_Status]:
    reasons = []
    count = 0
    for alias in known_aliases():
        try:
            layer = new_layer(alias)
        except CommandError as error:
            reasons.append(str(error))
            continue
        count += 1
        yield _status(alias, layer)
    if not count:
        raise CommandError("; ".join(reasons) or "CHANNEL_LAYERS is empty")


def _status(alias: str, layer: TrunkChannelLayer) -> _Status:
    status = _Status(layer=alias, backend=type(layer).__name__, prefix=layer.prefix, state=State.OK)
    try:
        status.peers = sorted(async_to_sync(layer.peers)())
        status.survey = layer.survey()
        status.detail = layer.health().detail
    except ChannelLayerError as error:
        status.detail = str(error)
        known = layer.health()
        status.state = known.state if known.state is not State.OK else State.AWAY
        if known.detail and known.detail not in status.detail:
            status.detail += f": {known.detail}"
    finally:
        layer.sync.close()
    return status


def _lines(status: _Status) -> Iterator[str]:
    yield f"{status.layer}: {status.backend}, prefix {status.prefix!r}"
    yield f"  state      {status.state}" + (f": {printable(status.detail)}" if status.detail else "")
    if status.peers is not None:
        yield f"  others     {len(status.peers)} processes" + "".join(
            f"\n    {printable(peer)}" for peer in status.peers
        )
    survey = status.survey
    if survey is None:
        return
    yield f"  waiting    {sum(survey.waiting.values())} in {len(survey.waiting)} normal channels"
    # On SQLite, what somebody else has written there may be bytes.
    fullest = sorted((-count, printable(str(channel))) for channel, count in survey.waiting.items())
    yield from (f"    {-count:>7}  {channel}" for count, channel in fullest[:_MOST_CHANNELS])
    if survey.log_rows is not None:
        yield f"  log        {survey.log_rows} rows"
    if survey.size_bytes is not None:
        yield f"  size       {shown_size(survey.size_bytes)}"
