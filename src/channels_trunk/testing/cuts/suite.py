"""The suite of cuts: each scenario again and again, with a connection cut at another packet each time."""

import asyncio
import os
import secrets
from collections.abc import Callable, Mapping
from typing import ClassVar

import pytest

from channels_trunk.testing.conformance.suite import SEED_VARIABLE
from channels_trunk.testing.cuts.choice import Choice
from channels_trunk.testing.cuts.run import Runner, faulty_runs
from channels_trunk.testing.cuts.scenarios import SCENARIOS
from channels_trunk.testing.features import Features, LayerUnderTest
from channels_trunk.testing.layer import Layer

__all__ = ["CutSuite"]

LayerAt = Callable[[str, int], LayerUnderTest]


class CutSuite:
    """Cuts a layer's connections at each packet. Subclass it under a name that pytest collects:

        class TestMyCuts(CutSuite):
            @pytest.fixture
            def server(self):
                return "127.0.0.1", 5432

            @pytest.fixture
            def layer_at(self):
                return lambda host, port: LayerUnderTest(backend="my.Layer", config={"url": f"my://{host}:{port}/"})

    `layer_at` says how the layer is configured if its server has this address: it is asked for the server's own, and
    for that of a proxy before it. A loss must be told: the layer counts a gap, and puts the `gap_event` of its `config`
    into the channels that are in groups; or the send raises TransportUnavailable.
    """

    features: ClassVar[Features] = Features()
    """What the layer claims. Of these, `flush` and `statistics` matter."""
    chosen: ClassVar[int] = 12
    """How many cuts are made in each scenario, unless `--cuts` says something else."""
    expected_failures: ClassVar[Mapping[str, str]] = {}
    """Scenarios in which some cuts are known to lose or repeat something, and the reason. Those that pass are no
    failure: which cuts are made is chosen at random."""

    @pytest.fixture
    def server(self) -> tuple[str, int]:
        """Return the host and the port of the server."""
        raise NotImplementedError("define the fixture server: see channels_trunk.testing.cuts.CutSuite")

    @pytest.fixture
    def layer_at(self) -> LayerAt:
        """Return what says how the layer is configured for a server at a host and a port."""
        raise NotImplementedError("define the fixture layer_at: see channels_trunk.testing.cuts.CutSuite")

    async def upkeep(self, layer: Layer) -> None:
        """Have the layer do now what it does now and then: some faults show only while it does."""

    @pytest.mark.parametrize("scenario", SCENARIOS)
    def test_cut_at_each_packet(
        self, request: pytest.FixtureRequest, scenario: str, server: tuple[str, int], layer_at: LayerAt
    ) -> None:
        """Nothing is lost untold, nothing comes twice, and afterwards everything works."""
        if reason := self.expected_failures.get(scenario):
            request.applymarker(pytest.mark.xfail(reason=reason, strict=False))
        choice = Choice(
            text=request.config.getoption("--cuts", default=None) or str(self.chosen),
            seed=os.environ.get(SEED_VARIABLE) or ("ci" if os.environ.get("CI") else secrets.token_hex(4)),
        )
        print(f"to repeat the same cuts: {SEED_VARIABLE}={choice.seed}")  # noqa: T201 - shown on failure
        with asyncio.Runner() as loop:
            runner = Runner(server, layer_at, features=self.features, upkeep=self.upkeep)
            faulty = loop.run(faulty_runs(runner, scenario, choice))
        report = [f"{len(faulty)} runs; one of them again: --cuts and the name of its cut", *map(str, faulty)]
        assert not faulty, "\n".join(report)
