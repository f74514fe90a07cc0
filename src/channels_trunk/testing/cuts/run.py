"""Runs of a scenario, each with one cut."""

import asyncio
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from channels_trunk.testing.cut import Cut, Direction
from channels_trunk.testing.cuts.choice import Choice
from channels_trunk.testing.cuts.scenarios import SCENARIOS, afterwards
from channels_trunk.testing.cuts.stage import Actor, Stage
from channels_trunk.testing.features import Features, LayerUnderTest
from channels_trunk.testing.layer import Layer, close_layer, configure_django, make_layer
from channels_trunk.testing.proxy import Proxy

__all__ = ["Outcome", "Runner", "faulty_runs"]

# A run takes a fraction of a second, if nothing is wrong and the machine does nothing else.
_WITHIN = 120
# How many packets a scenario takes varies a little.
_UNCUT_RUNS = 3


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of one run."""

    cut: Cut | None
    packets: Counter[Direction]
    """Those of the scenario; where it was cut they are those of two connections."""
    faults: list[str]
    gaps: int
    """How many gaps were told of."""
    unsure: int
    """How many sends raised TransportUnavailable."""
    cut_during: str
    """What the scenario was doing when it was cut; empty if the packet did not come."""

    def __str__(self) -> str:
        where = f"{self.cut or 'without a cut'}, during {self.cut_during or 'nothing'}"
        return "\n    ".join([where, *self.faults])


class Runner:
    """Runs scenarios in the present loop, one after the other, with one witness for all of them."""

    def __init__(
        self,
        server: tuple[str, int],
        layer_at: Callable[[str, int], LayerUnderTest],
        *,
        features: Features,
        upkeep: Callable[[Layer], Awaitable[None]],
    ) -> None:
        self._features = features
        self._upkeep = upkeep
        self._direct = layer_at(*server)
        self._proxy = Proxy(*server)
        self._behind = layer_at(self._proxy.host, self._proxy.port)
        self._witness: Layer | None = None
        configure_django(self._direct.django_settings)

    async def run(self, scenario: str, cut: Cut | None = None) -> Outcome:
        """Run the scenario with this cut, and look whether everything works afterwards."""
        witness = self._witness = self._witness or make_layer(self._direct.backend, self._direct.config)
        victim = make_layer(self._behind.backend, self._behind.config)
        stage = self._stage(victim, witness)
        cut_during: list[str] = []
        self._proxy.plan(cut, noted=lambda: cut_during.append(stage.doing))
        packets: Counter[Direction] = Counter()
        faults: list[str] = []
        try:
            async with asyncio.timeout(_WITHIN):
                await SCENARIOS[scenario](stage)
                packets = self._proxy.packets()
                self._proxy.plan(None)
                await afterwards(stage)
        except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to this cut
            faults = [f"{stage.doing}: {error!r}"]
        gaps = stage.victim.gaps() + stage.witness.gaps()
        faults = stage.verdict() + faults
        await stage.stop_reading()
        faults += await self._put_away(victim)
        if faults:
            faults += await self._put_away(witness)
            self._witness = None
        return Outcome(
            cut=cut,
            packets=packets or self._proxy.packets(),
            faults=faults,
            gaps=gaps,
            unsure=stage.ledger.unsure_total,
            cut_during="".join(cut_during),
        )

    async def close(self) -> None:
        """Free everything."""
        if self._witness is not None:
            await self._put_away(self._witness)
        self._proxy.close()

    def _stage(self, victim: Layer, witness: Layer) -> Stage:
        counts = self._features.statistics
        return Stage(
            Actor("victim", victim, counts_gaps=counts),
            Actor("witness", witness, counts_gaps=counts),
            tag=secrets.token_hex(4),
            patience=self._direct.patience,
            gap_event=self._direct.config.get("gap_event"),
            can_flush=self._features.flush,
            upkeep=self._upkeep,
        )

    async def _put_away(self, layer: Layer) -> list[str]:
        try:
            async with asyncio.timeout(_WITHIN):
                await close_layer(layer)
        except Exception as error:  # noqa: BLE001 - as above
            return [f"close(): {error!r}"]
        return []


async def faulty_runs(runner: Runner, scenario: str, choice: Choice, *, most: int = 1_000) -> list[Outcome]:
    """Run a scenario without a cut, and then with each cut that is chosen; return the runs that went wrong, or so many.

    It closes the runner.
    """
    tally: Counter[str] = Counter()
    packets: Counter[Direction] = Counter()
    try:
        uncut = [await runner.run(scenario) for _ in range(_UNCUT_RUNS)]
        faulty = [outcome for outcome in uncut if outcome.faults]
        for outcome in uncut:
            packets |= outcome.packets
        for cut in () if faulty else choice.cuts(packets):
            outcome = await runner.run(scenario, cut)
            tally.update(runs=1, cut=bool(outcome.cut_during), gaps=outcome.gaps, unsure=outcome.unsure)
            if outcome.faults:
                faulty.append(outcome)
                print(outcome, flush=True)  # noqa: T201 - all of them take their time
            if len(faulty) == most:
                break
    finally:
        await runner.close()
        print(f"{scenario}: {dict(tally)}")  # noqa: T201 - shown on failure
    return faulty
