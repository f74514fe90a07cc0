"""What is done now and then: the heartbeat, emptying the log, forgetting who is gone."""

import asyncio
import secrets

from channels_trunk.exceptions import TransportUnavailable
from channels_trunk.transports.base import NodeContext
from channels_trunk.transports.server_time import tell_time

from .line import Line
from .names import ALIVE_CLASS, HEAD, LOWEST, NOW, Names, lock_key_of
from .queues import Queues
from .wire import Statement, Wire

__all__ = ["HEARTBEAT", "Place", "Upkeep"]

HEARTBEAT = 2.0
# A node is taken for alive while a session of its process holds its lock, or for so long after its last heartbeat: its
# connections may have been cut a moment ago.
_ALIVE_FOR = 3.0
# A node that nobody has heard of for so long does not keep the log from being emptied. Seconds of the server's clock.
_SILENT_AFTER = 30.0
# A log is emptied when it is as large as this; both together are never larger than the limit, or what a process did not
# read in time is lost to it, and it is told.
_ENOUGH = 4 * 1024 * 1024
_LIMIT = 40 * 1024 * 1024
_ROWS_PER_STEP = 200
_VACUUM_AFTER = 2_000
# A mark that does not come back for so long means that the connection that LISTENs is dead. Seconds.
_DEAF_AFTER = 15.0
# Whether a row of {p}nodes is of a process that lives; %d is the place of the seconds that it may be silent.
_ALIVE = (
    "(seen_at > clock_timestamp() - $%d * interval '1 s' OR EXISTS (SELECT 1 FROM pg_locks l "
    f"WHERE l.locktype = 'advisory' AND l.classid = {ALIVE_CLASS} AND l.objid::bigint = "
    "(lock_key::bigint + 4294967296) %% 4294967296 AND l.objsubid = 2 AND l.granted "
    "AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())))"
)


class Place:
    """What a node finds when it comes: where the log begins and ends, and in which of the server's lives."""

    def __init__(self, epoch: int, lowest: int, head: int) -> None:
        self.epoch = epoch
        self.lowest = lowest
        self.head = head


class Upkeep:
    """On a connection that others use, too."""

    def __init__(self, line: Line, context: NodeContext, names: Names, queues: Queues) -> None:
        self._line = line
        self._context = context
        self._names = names
        self._queues = queues
        self._lock_key = lock_key_of(context.node)
        # Perhaps it was no crash, and somebody has emptied this table alone. What is in the log was read, or is told to
        # be lost; there may be members; and those who listen all the while must not take new rows for old ones.
        self._new_epoch = Statement(
            names.fill(
                "WITH p AS (SELECT greatest($2::bigint, max(position)) AS position FROM {p}nodes), "
                "s AS (INSERT INTO {p}state (epoch, with_members, base) "
                "SELECT $1::bigint, true, CASE WHEN position >= 0 THEN position + {leap} ELSE 0 END FROM p "
                "ON CONFLICT DO NOTHING RETURNING 1), "
                "l AS (DELETE FROM {p}log_0 WHERE EXISTS (SELECT FROM s)) "
                "DELETE FROM {p}log_1 WHERE EXISTS (SELECT FROM s)"
            )
        )
        self._find_place = Statement(names.fill(f"SELECT epoch, {LOWEST}, {HEAD}, {NOW} FROM {{p}}state"))
        self._register = Statement(
            names.fill(
                "INSERT INTO {p}nodes VALUES ($1, $2, $3::bigint::integer, 0, $4, clock_timestamp()) "
                "ON CONFLICT (node) DO UPDATE SET position = excluded.position, seen_at = excluded.seen_at"
            )
        )
        self._heartbeat = Statement(
            names.fill("UPDATE {p}nodes SET position = $2, seen_at = clock_timestamp() WHERE node = $1 RETURNING 1")
        )
        # One statement: whoever appends meanwhile has done so, and has then made the leap. Above the position, which a
        # stranger's notification may have taken anywhere.
        self._leap = Statement(
            names.fill(
                "WITH l AS MATERIALIZED (SELECT pg_advisory_xact_lock({lock_class}, {lock_key})) "
                f"UPDATE {{p}}state SET base = greatest(base, $1) + {{leap}}, begun = false FROM l WHERE {HEAD} < $1"
            )
        )
        self._leave = Statement(names.fill("DELETE FROM {p}nodes WHERE node = $1"))
        self._mark = Statement(names.fill(f"SELECT pg_notify($1, 'mark ' || {HEAD}) FROM {{p}}state"))
        self._peers = Statement(
            names.fill(f"SELECT node FROM {{p}}nodes WHERE prefix = $1 AND node <> $2 AND {_ALIVE % 3}")
        )
        self._forget = Statement(names.fill(f"DELETE FROM {{p}}nodes WHERE node <> $1 AND NOT {_ALIVE % 2}"))
        self._rotate = Statement(names.fill("SELECT {p}rotate($1, $2, $3)"))
        # Only among the oldest: what is behind living messages is dropped when somebody claims.
        self._expired = Statement(
            names.fill(
                "SELECT DISTINCT prefix, channel FROM (SELECT prefix, channel, expires_at FROM {p}queue "
                f"ORDER BY id + 0 LIMIT {_ROWS_PER_STEP}) q WHERE expires_at <= {NOW}"
            )
        )
        self._drop_expired = Statement(
            names.fill(
                f"WITH q AS (DELETE FROM {{p}}queue WHERE prefix = $1 AND channel = $2 AND expires_at <= {NOW} "
                "RETURNING 1) "
                "SELECT count(*) FROM q"
            )
        )
        self._drop_ended = Statement(names.fill(f"DELETE FROM {{p}}members WHERE expires_at <= {NOW}"))
        self._hold_lock = Statement("SELECT pg_advisory_lock_shared($1::bigint::integer, $2::bigint::integer)")

    # --- this node's place

    async def find_place(self, position: int) -> Place:
        """Look where the log begins and ends; begin a new epoch if there is none.

        That is above the nodes' positions, and this one; -1 if this node has been nowhere. And tell the hub what time
        it is there.
        """
        clock = self._context.clock.monotonic
        began = clock()
        rows = await self._line.run(self._find_place)
        if not rows:
            await self._line.run(self._new_epoch, secrets.randbits(62), position)
            began = clock()
            rows = await self._line.run(self._find_place)
        *place, now = rows[0]
        tell_time(self._context, now, asked_at=began)
        return Place(*place)

    async def hold_alive_lock(self, wire: Wire) -> None:
        """Have a session say that this node lives, for as long as it does itself."""
        if not wire.pooled:
            await wire.run(self._hold_lock, ALIVE_CLASS, self._lock_key)

    async def heartbeat(self, position: int) -> bool:
        """Say that this node lives and has read so far; whether it is known."""
        return bool(await self._line.run(self._heartbeat, self._context.node, position))

    async def register(self, position: int) -> None:
        """Take part, from here on."""
        await self._line.run(self._register, self._context.node, self._context.prefix, self._lock_key, position)

    async def leap(self, position: int) -> None:
        """Somebody has emptied the log, whose end is below a position: nothing is to be appended there."""
        await self._line.run(self._leap, position)

    async def leave(self) -> None:
        """Take part no more."""
        await self._line.run(self._leave, self._context.node)

    async def peers(self) -> frozenset[str]:
        """Nodes whose processes live, as far as can be known."""
        rows = await self._line.run(self._peers, self._context.prefix, self._context.node, _ALIVE_FOR)
        return frozenset(node for (node,) in rows)

    async def mark(self) -> None:
        """Send this node a mark: when it comes back, everything in front of it has come."""
        bell = self._names.bells(self._context.prefix).node(self._context.node)
        await self._line.run(self._mark, bell)

    def check_hearing(self, marked_at: float) -> None:
        """Raise TransportUnavailable if LISTEN has brought nothing for too long."""
        if asyncio.get_running_loop().time() - marked_at > _DEAF_AFTER:
            raise TransportUnavailable("the connection that listens does not answer any more")

    # --- space

    async def empty_log(self) -> str:
        """Empty the older of the two logs if it is time; say what came of it."""
        [(outcome,)] = await self._line.run(self._rotate, _ENOUGH, _LIMIT, _SILENT_AFTER)
        return str(outcome)

    async def tidy(self) -> bool:
        """Forget who is gone, what has expired, and memberships that have ended; whether there is more."""
        await self._line.run(self._forget, self._context.node, _SILENT_AFTER)
        expired = await self._line.run(self._expired)
        for prefix, channel in expired:
            [(count,)] = await self._line.run(self._drop_expired, prefix, channel)
            self._queues.deleted += count
        await self._line.run(self._drop_ended)
        if self._queues.deleted >= _VACUUM_AFTER:
            # Not left to autovacuum, which may be late or off: dead rows are in the way of each claim.
            self._queues.deleted = 0
            for table in ("queue", "nodes", "state", "members"):
                # Claims go over this connection, too, and must not wait for another who is at the same.
                await self._line.simple(self._names.fill(f"VACUUM (SKIP_LOCKED) {{p}}{table}"))
        return bool(expired)
