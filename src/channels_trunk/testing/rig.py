"""The rig: what one rule works with, and what is put away after it."""

import asyncio
import gc
import random
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from channels_trunk.testing.commands import Commands, open_files
from channels_trunk.testing.features import Features, LayerUnderTest
from channels_trunk.testing.layer import Layer, close_layer, configure_django, make_layer
from channels_trunk.testing.peers import Peer, ThreadPeer
from channels_trunk.testing.processes import ProcessPeer, Switchboard
from channels_trunk.testing.waiting import eventually

__all__ = ["Rig"]


class Rig:
    """Makes layers and peers of one configuration, runs a rule with a time limit, and cleans up.

    `random` is seeded; `name()` gives names that no other rule uses.
    """

    def __init__(
        self, under_test: LayerUnderTest, *, features: Features, seed: str, peers_are: str = "process"
    ) -> None:
        self.under_test = under_test
        self.features = features
        self.seed = seed
        self.random = random.Random(seed)
        self.peers_are = peers_are
        self._tag = random.Random().randbytes(4).hex()
        self._layers: list[Layer] = []
        self._thread_peers: list[ThreadPeer] = []
        self._board: Switchboard | None = None
        self._directory = ""
        self._loop_errors: list[str] = []
        configure_django(under_test.django_settings)

    # What a rule asks for

    def name(self, base: str) -> str:
        """Return a channel or group name that starts with `base`."""
        return f"{base}-{self._tag}"

    async def each_kind(self, owner: Peer | Commands) -> list[str]:
        """Return a channel of each kind that the layer has: a specific one of `owner`, and a normal one."""
        specific = await owner.new_channel()
        return [specific, self.name("normal")] if self.features.normal_channels else [specific]

    def scaled(self, number: int) -> int:
        """Return how many messages a rule should send where a fast layer gets `number`."""
        return max(20, int(number * self.under_test.scale))

    def seconds(self, number: float) -> float:
        """Return how long to wait for a message of this layer where one that loses none is given `number` seconds."""
        return number * self.under_test.patience

    async def eventually(self, condition: Callable[[], Any], *, within: float = 20, what: str = "") -> Any:
        """Wait for a condition that depends on the layer: eventually(), with the layer's patience.

        The first that is asked of a process waits until that has been started.
        """
        return await eventually(condition, within=self.seconds(within), what=what)

    def config(self, **changes: Any) -> dict[str, Any]:
        """Return the layer's configuration with `changes`."""
        return {**self.under_test.config, **changes}

    def layer(self, **changes: Any) -> Layer:
        """Make a layer; it is closed after the rule."""
        layer = self.unkept_layer(**changes)
        self._layers.append(layer)
        return layer

    def unkept_layer(self, **changes: Any) -> Layer:
        """Make a layer that the rule alone holds, and closes if it is to be closed."""
        return make_layer(self.under_test.backend, self.config(**changes))

    def here(self, **changes: Any) -> Commands:
        """Make a layer and return a peer's commands for this side."""
        return self.commands(self.layer(**changes))

    def commands(self, layer: Layer) -> Commands:
        """Return a peer's commands for a layer of this side."""
        return Commands(layer, patience=self.under_test.patience)

    async def peer(self, **changes: Any) -> Peer:
        """Start a peer of the kind that the rule is run with."""
        if self.peers_are == "process":
            return await self.process(**changes)
        peer = ThreadPeer(self.commands(self.unkept_layer(**changes)))
        self._thread_peers.append(peer)
        return peer

    async def peers(self, count: int, **changes: Any) -> list[Peer]:
        """Start several peers at once."""
        return list(await asyncio.gather(*(self.peer(**changes) for _ in range(count))))

    async def process(self, **changes: Any) -> ProcessPeer:
        """Start a peer process."""
        if self._board is None:
            self._board = Switchboard(Path(self._directory))
            await self._board.open()
        return await self._board.spawn(self.under_test, self.config(**changes))

    def files(self) -> dict[str, str]:
        """Return the open file descriptors, after what nothing refers to has been collected."""
        gc.collect()
        return open_files()

    # Running

    def run(self, main: Callable[[], Awaitable[None]], *, within: float) -> None:
        """Run a rule in a loop of its own; whatever it made is closed in that loop."""
        with tempfile.TemporaryDirectory(prefix="trunk-") as directory, asyncio.Runner() as runner:
            self._directory = directory
            runner.run(self._run(main, within))
        if self._loop_errors:
            raise AssertionError("errors in the event loop:\n" + "\n".join(self._loop_errors))

    def finish(self) -> None:
        """Close what a rule without a loop has made."""
        if self._layers:
            asyncio.run(self._close_layers())

    async def _run(self, main: Callable[[], Awaitable[None]], within: float) -> None:
        asyncio.get_running_loop().set_exception_handler(self._note)
        try:
            # A layer that loses some answers no later.
            async with asyncio.timeout(within * max(1.0, self.under_test.patience)):
                await main()
        finally:
            await self._close()

    async def _close(self) -> None:
        complaints: list[str] = []
        for peer in self._thread_peers:
            await peer.stop()
        try:
            if self._board is not None:
                complaints = await self._board.close()
            await self._close_layers()
        finally:
            if self._board is not None:
                self._board.kill_all()
                print(self._board.messages())  # noqa: T201 - pytest shows it with a failure, and only then
        assert not complaints, complaints

    async def _close_layers(self) -> None:
        layers, self._layers = self._layers, []
        for layer in layers:
            async with asyncio.timeout(20):
                await close_layer(layer)

    def _note(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self._loop_errors.append(f"{context.get('message')}: {context.get('exception')!r}")
