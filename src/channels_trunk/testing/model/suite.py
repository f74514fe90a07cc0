"""The model suite: random programmes on any channel layer. See ModelSuite."""

import dataclasses
import itertools
import os
import secrets
from typing import ClassVar

import pytest

from channels_trunk.testing.features import Features, LayerUnderTest
from channels_trunk.testing.model.allowances import Difference
from channels_trunk.testing.model.programmes import Scope, draw_programme, shrunk
from channels_trunk.testing.model.runner import run_programme
from channels_trunk.testing.model.stage import Engine, Stage
from channels_trunk.testing.model.steps import Copy, Cut, Lose, Programme, Restore
from channels_trunk.testing.rig import Rig

__all__ = ["PROGRAMMES_VARIABLE", "SEED_VARIABLE", "ModelSuite", "code_of", "find_difference", "replay"]

PROGRAMMES_VARIABLE = "CHANNELS_TRUNK_PROGRAMMES"
SEED_VARIABLE = "CHANNELS_TRUNK_SEED"
_SHRINK_WITHIN = 5.0
_LIVES = 10
"""How many times longer than the layer's shortest `expiry` messages live in programmes in which they expire."""
_IN_MEMORY = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}


class ModelSuite:
    """Random programmes for a channel layer. Subclass it as conformance.Suite:

        class TestMyLayerByModel(ModelSuite):
            features = Features.of_another_package()

            @pytest.fixture
            def layer_config(self):
                return LayerUnderTest(backend="my.Layer", config={...})

    What `features` leaves out is in no programme. A failure prints a programme that is as short as can be, as code.
    """

    features: ClassVar[Features] = Features()
    programmes: ClassVar[int] = 20
    """How many programmes are run with each kind of node, unless --programmes or CHANNELS_TRUNK_PROGRAMMES says another
    number."""

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run each test with nodes that are threads, and with processes."""
        metafunc.parametrize("rig", self.features.kinds_of_peers() or ["thread"], indirect=True)

    @pytest.fixture
    def layer_config(self) -> LayerUnderTest:
        """Return the layer under test."""
        raise NotImplementedError("define the fixture layer_config: see channels_trunk.testing.model.ModelSuite")

    @pytest.fixture
    def engine(self) -> Engine:
        """Return what programmes may do to the engine."""
        return Engine()

    @pytest.fixture
    def rig(self, request: pytest.FixtureRequest, layer_config: LayerUnderTest) -> Rig:
        """Return what the programmes work with."""
        seed = os.environ.get(SEED_VARIABLE) or ("ci" if os.environ.get("CI") else secrets.token_hex(4))
        print(f"to repeat this with the same random choices: {SEED_VARIABLE}={seed}")  # noqa: T201 - shown on failure
        return rig_of(layer_config, features=self.features, seed=seed, nodes_are=request.param)

    def test_programmes(self, request: pytest.FixtureRequest, rig: Rig, engine: Engine) -> None:
        """Each step of each programme comes to what the reference says."""
        asked_for = request.config.getoption("--programmes", None) or os.environ.get(PROGRAMMES_VARIABLE)
        count = int(asked_for or self.programmes)
        found = find_difference(rig, engine, programmes=count)
        if found is not None:
            pytest.fail(found, pytrace=False)


def find_difference(
    rig: Rig, engine: Engine, *, programmes: int, within: float = 40, size: int = 60, shrink: bool = True
) -> str | None:
    """Run so many programmes; return the first difference and the shortest programme that shows it, as code."""
    scope = Scope.of(rig.features, processes=rig.peers_are == "process", engine=engine)
    found: list[str] = []

    async def look(stage: Stage, seed: str, scope: Scope, size: int) -> None:
        programme = draw_programme(seed, scope, size=size)
        try:
            await run_programme(stage, programme)
        except Difference as difference:
            told = f"programme {seed}: {difference}\n"
            found.extend(filter(None, [await _explained(stage, programme, told) if shrink else told]))

    async def main() -> None:
        stage = Stage(rig, engine, nodes=scope.nodes)
        stage.within = rig.seconds(within)
        await stage.open()
        for index in itertools.takewhile(lambda _: not found, range(programmes)):
            # Every fourth is one of nodes that act at once.
            await look(stage, f"{rig.seed}/{index}", scope.acting_at_once() if index % 4 == 3 else scope, size)
        if rig.features.expiry and not found:
            # The nodes are others, as their messages live for a short time; and so are the programmes.
            await stage.close()
            await stage.open(expiry=rig.under_test.shortest_expiry * _LIVES)
            for index in itertools.takewhile(lambda _: not found, range(1 + programmes // 50)):
                await look(stage, f"{rig.seed}/expiry/{index}", scope.with_expiry(), size // 2)

    rig.run(main, within=rig.seconds(600 + 10 * programmes))
    return found[0] if found else None


def replay(
    layer: LayerUnderTest,
    programme: Programme,
    *,
    nodes_are: str = "process",
    features: Features | None = None,
    engine: Engine | None = None,
    times: int = 1,
) -> None:
    """Run one programme; raises Difference. What a failure prints calls this."""
    rig = rig_of(layer, features=features or Features(), seed="replay", nodes_are=nodes_are)

    async def main() -> None:
        stage = Stage(rig, engine or Engine(), nodes=programme.nodes)
        stage.within = rig.seconds(stage.within)
        await stage.open()
        for _ in range(times):
            await run_programme(stage, programme)

    rig.run(main, within=rig.seconds(600))


def rig_of(layer: LayerUnderTest, *, features: Features, seed: str, nodes_are: str) -> Rig:
    """Return a rig for programmes."""
    if features.sync_api:
        # Something to commit.
        settings = {"INSTALLED_APPS": [], "DATABASES": _IN_MEMORY, **layer.django_settings}
        layer = dataclasses.replace(layer, django_settings=settings)
    return Rig(layer, features=features, seed=seed, peers_are=nodes_are)


async def _explained(stage: Stage, programme: Programme, told: str) -> str | None:
    """Return what is told, with the shortest programme that shows it."""
    latest, kind = [Difference(told)], _kind(told)
    within, stage.within = stage.within, min(stage.within, stage.rig.seconds(_SHRINK_WITHIN))
    await stage.renew_all()

    async def fails(shorter: Programme) -> bool:
        for _ in range(5 if shorter.at_once else 1):
            try:
                await run_programme(stage, shorter)
            except Difference as found:
                await stage.renew_all()
                if _kind(found) == kind:
                    latest.append(found)
                    return True
        return False

    if await fails(programme):
        shortest = await shrunk(programme, fails)
        stage.within = within
        # What only took longer than there was time while it was made shorter is no difference.
        programme = shortest if await fails(shortest) else programme
        note = ""
    elif stage.expiry is not None:
        return None  # the machine stood still for as long as a message lives
    else:
        note = "It did not fail a second time: it may be a race, and the programme is as it was drawn.\n"
    code = code_of(stage.rig, programme)
    return f"{told}{note}as short as can be: {latest[-1]}\n\n{code}"


def _kind(told: object) -> str:
    """Return what kind of difference it is: a programme that is made shorter must go on to show the same."""
    for words in (
        "second time",
        "not for it",
        " before ",
        "for good",
        "though it was full",
        "counted gaps",
        "lost, and",
    ):
        if words in str(told):
            return words
    return "lost" if "did not get" in str(told) or "TimeoutError" in str(told) else "an error"


def code_of(rig: Rig, programme: Programme) -> str:
    """Return a programme as code that runs; for what befalls the engine, with the suite's own fixture."""
    of_engine = any(isinstance(step, (Copy, Cut, Lose, Restore)) for step in programme.steps)
    engine = ", engine=Engine(...)" if of_engine else ""
    return (
        "from channels_trunk.testing import Features, LayerUnderTest\n"
        "from channels_trunk.testing.model import *\n\n"
        f"layer = {rig.under_test!r}\n"
        f"programme = {programme!r}\n"
        f"replay(layer, programme, nodes_are={rig.peers_are!r}{engine})\n"
    )
