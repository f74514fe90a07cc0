"""Normal channels: taking messages out of them, giving messages back, and their memberships in groups."""

import asyncio
from collections.abc import Sequence

from channels_trunk.envelope import Envelope, Kind
from channels_trunk.exceptions import TransportUnavailable
from channels_trunk.transports.base import Claimed, NodeContext
from channels_trunk.transports.frames import claimed_message

from .hints import Hints
from .line import Line
from .moves import Move, Moves, Taken
from .names import NOW, Names
from .values import bytes_array, float_array, int_array, text_array
from .wire import ServerError, Statement
from .writer import Writer

__all__ = ["Queues"]

# What was taken is in the way of each claim and each look for room, until maintenance notes how far the queue is taken.
_IN_THE_WAY = 2_000


class Queues:
    """On a connection that others use, too."""

    def __init__(self, line: Line, context: NodeContext, names: Names, moves: Moves, hints: Hints) -> None:
        self._line = line
        self._context = context
        self._bells = names.bells(context.prefix)
        self._moves = moves
        self._hints = hints
        self._settling = asyncio.Lock()
        self.deleted = 0
        self._in_the_way = 0
        # By places in the table, without a join: a plan that was made while the queue was empty joins by reading all.
        rows = "SELECT place FROM (SELECT ctid AS place FROM {p}queue WHERE prefix = $1 AND channel = $2 AND id %s "
        rows += "ORDER BY id FOR UPDATE SKIP LOCKED) %s"
        back, new = rows % ("< 0", "back"), rows % ("> (SELECT taken FROM {p}state)", "new")
        self._take = Statement(
            names.fill(
                f"DELETE FROM {{p}}queue WHERE ctid = ANY (ARRAY(SELECT place FROM ({back} UNION ALL {new}) there "
                f"LIMIT $3)) RETURNING id, expires_at, frame, txid_current(), {NOW}"
            )
        )
        self._put_back = Statement(
            names.fill(
                "INSERT INTO {p}queue (id, prefix, channel, expires_at, frame) SELECT i, $1, c, e, f FROM "
                "unnest($2::bigint[], $3::text[], $4::float8[], $5::bytea[]) AS r(i, c, e, f) "
                "RETURNING txid_current()"
            )
        )
        self._new_ids = Statement(names.fill("SELECT -nextval('{p}queue_ids') FROM generate_series(1, $1)"))
        self._notify = Statement("SELECT pg_notify(c, 'queue') FROM unnest($1::text[]) c")
        self._outcome = Statement("SELECT txid_status($1)")
        self._waiting = Statement(
            names.fill(
                "SELECT channel FROM unnest($2::text[]) channel WHERE EXISTS (SELECT 1 FROM {p}queue q "
                "WHERE q.prefix = $1 AND q.channel = channel.channel AND q.id > (SELECT taken FROM {p}state)) "
                "OR EXISTS (SELECT 1 FROM {p}queue q WHERE q.prefix = $1 AND q.channel = channel.channel AND q.id < 0)"
            )
        )
        self._bind = Statement(
            names.fill(
                "WITH m AS (INSERT INTO {p}members VALUES ($1, $2, $3, $4) ON CONFLICT (prefix, group_name, channel) "
                "DO UPDATE SET expires_at = excluded.expires_at) UPDATE {p}state SET with_members = true"
            )
        )
        self._unbind = Statement(
            names.fill("DELETE FROM {p}members WHERE prefix = $1 AND group_name = $2 AND channel = $3")
        )
        self._purge = Statement(
            names.fill("WITH q AS (DELETE FROM {p}queue WHERE prefix = $1) DELETE FROM {p}members WHERE prefix = $1")
        )

    async def claim(self, channel: str, limit: int) -> list[Claimed]:
        """Take messages out; one that has expired or cannot be decoded is left out, and another taken in its place."""
        if self._hints.resting(channel):
            return []
        if self._moves.unsure:
            await self.settle()
        found: list[Claimed] = []
        done: list[Move] = []
        try:
            while (wanted := limit - len(found)) > 0:
                move, now = await self._take_out(channel, wanted)
                if move is None:
                    break
                done.append(move)
                found += [message for row in move.rows if (message := self._claimed(row, now)) is not None]
                if len(move.rows) < wanted:
                    break
        except BaseException:
            # What the rounds before brought goes back: the caller gets nothing.
            self._moves.unsure += done
            raise
        self._hints.claimed(channel, len(found), limit=limit)
        return found

    async def _take_out(self, channel: str, limit: int) -> tuple[Move | None, float]:
        """Delete the oldest rows, and return them when that is certain, with the time of the server's clock."""
        move, now = None, 0.0
        async with self._line.transaction() as run:
            if found := await run(self._take, self._context.prefix, channel, limit):
                rows = sorted(Taken(row, channel, expires_at, frame) for row, expires_at, frame, _, _ in found)
                transaction, now = found[0][-2:]
                move = Move(transaction, rows, out=True)
                self._moves.unsure.append(move)
        if move is not None:
            self._moves.unsure.remove(move)
            self._count(len(move.rows))
        return move, now

    def _count(self, taken: int) -> None:
        self.deleted += taken
        self._in_the_way += taken
        if self._in_the_way >= _IN_THE_WAY:
            self._in_the_way = 0
            self._context.sink.maintain_soon()

    def _claimed(self, row: Taken, now: float) -> Claimed | None:
        # By the server's clock: a process whose own is wrong, or was set a moment ago, must not throw away a message.
        if row.expires_at <= now:
            return None
        message = claimed_message(self._context, row.channel, row.expires_at, row.frame)
        return message and message._replace(expires_at=self._context.clock.wall() + message.expires_at - now)

    async def settle(self) -> None:
        """Find out what became of moves that nobody has answered for; what nobody has got goes back."""
        async with self._settling:
            for move in list(self._moves.unsure):
                [(outcome,)] = await self._line.run(self._outcome, move.transaction)
                if move not in self._moves.unsure:
                    continue  # it was under way, and now whoever began it knows
                if outcome == "in progress":
                    continue  # its session is at its end, or soon will be: the server gives it a limit
                if (outcome == "committed") == move.out:
                    await self._put_in(move.rows, instead_of=move)
                else:
                    self._moves.unsure.remove(move)

    async def drop(self) -> None:
        """What is in nobody's hands is in nobody's, whatever became of it."""
        async with self._settling:
            self._moves.clear()

    async def restore(self, claimed: Sequence[Claimed]) -> None:
        """Insert messages again, in front of all others."""
        # Some were accepted before, if this is tried again; and for as long as it is.
        if rest := self._moves.without_accepted(claimed):
            await self._restore(rest)
        self._moves.all_are_back()

    async def _restore(self, claimed: Sequence[Claimed]) -> None:
        rows = []
        for message in claimed:
            envelope = Envelope(Kind.QUEUE, message.channel, message.expires_at, message.body)
            frame = Writer.queue_frame(self._context, message.channel, envelope)
            rows.append(Taken(0, message.channel, message.expires_at, frame))
        try:
            await self._put_in(rows)
        except (TransportUnavailable, ServerError):
            if not self._noted(rows):
                raise
        except asyncio.CancelledError:
            if self._noted(rows):
                self._moves.accept(claimed)
            raise

    def _noted(self, rows: Sequence[Taken]) -> bool:
        return any(move.rows is rows for move in self._moves.unsure)

    async def _put_in(self, rows: Sequence[Taken], *, instead_of: Move | None = None) -> None:
        """Insert rows with ids below all others, and tell whom they concern."""
        async with self._line.transaction() as run:
            # The lowest last: new ids fall.
            ids = sorted(row for (row,) in await run(self._new_ids, len(rows)))
            stored = await run(
                self._put_back,
                self._context.prefix,
                int_array(ids),
                text_array([row.channel for row in rows]),
                float_array([row.expires_at for row in rows]),
                bytes_array([row.frame for row in rows]),
            )
            await run(self._notify, text_array(sorted({self._bells.queue(row.channel) for row in rows})))
            move = Move(stored[0][0], rows, out=False)
            self._moves.replace(instead_of, move)
        self._moves.unsure.remove(move)

    async def waiting(self, channels: frozenset[str]) -> list[str]:
        """Which of these normal channels hold messages."""
        if not channels:
            return []
        return [
            row[0] for row in await self._line.run(self._waiting, self._context.prefix, text_array(sorted(channels)))
        ]

    async def bind(self, group: str, channel: str, expires_at: float) -> None:
        """Write the membership."""
        await self._line.run(self._bind, self._context.prefix, group, channel, expires_at)

    async def unbind(self, group: str, channel: str) -> None:
        """Remove the membership."""
        await self._line.run(self._unbind, self._context.prefix, group, channel)

    async def purge(self) -> None:
        """Delete every message of a normal channel and every membership."""
        await self._line.run(self._purge, self._context.prefix)
