"""Which layers and workloads a run has."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from trunkbench.figures import Workload
from trunkbench.peers import PEERS, Peer
from trunkbench.services import ServiceError, Services
from trunkbench.workloads.table import WORKLOADS


def choose_peers(names: Sequence[str] | None, services: Services, *, quick: bool) -> tuple[list[Peer], dict[str, str]]:
    """The layers that can run here, and why the others cannot. A layer asked for by name must be there."""
    chosen, left_out = [], {}
    for peer in PEERS:
        if (names and peer.name not in names) or (quick and peer.variant and not names):
            continue
        reason = peer.missing() or _missing_service(peer, services)
        if reason is None:
            chosen.append(peer)
        elif names:
            sys.exit(f"{peer.label}: {reason}")
        else:
            left_out[peer.label] = reason
    return chosen, left_out


def _missing_service(peer: Peer, services: Services) -> str | None:
    try:
        if "redis" in peer.needs:
            services.redis.command("PING")
        if "valkey" in peer.needs:
            services.valkey.command("PING")
        if "postgres" in peer.needs:
            services.postgres.version()
        if "rabbitmq" in peer.needs:
            services.rabbitmq.version()
    except ServiceError as error:
        return str(error)
    return None


def named_so(name: str) -> list[Workload]:
    """The workload of this name, or those whose names begin so."""
    exactly = [each for each in WORKLOADS if each.name == name]
    return exactly or [each for each in WORKLOADS if each.name.startswith(name)]


def choose_workloads(names: Sequence[str] | None, *, quick: bool) -> list[Workload]:
    """All, or those named; a quick run leaves the curves and details out unless they are named."""
    if names:
        wanted = {each.name for name in names for each in named_so(name)}
        return [each for each in WORKLOADS if each.name in wanted]
    return [each for each in WORKLOADS if not (quick and each.series)]
