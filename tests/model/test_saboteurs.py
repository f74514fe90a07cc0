"""The model suite finds what is right until something changes, and shows it by a short programme."""

import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from channels_trunk.layers.memory import MemoryChannelLayer
from channels_trunk.testing import Features, LayerUnderTest
from channels_trunk.testing.loopback import loopback_server
from channels_trunk.testing.model import Engine, Loss, find_difference
from channels_trunk.testing.model.suite import rig_of
from channels_trunk.testing.transports import LoopbackChannelLayer
from tests.model import saboteurs

pytestmark = pytest.mark.timeout(600)

FEATURES = Features(crosses_processes=False, encryption=False)
ON_MEMORY = saboteurs.names(MemoryChannelLayer)
ON_LOOPBACK = saboteurs.names(LoopbackChannelLayer)


def found_in(backend: str, *, loopback: bool, within: float, shrink: bool = False) -> str | None:
    """The difference that 50 programmes find, always the same ones."""
    prefix = f"model-{uuid.uuid4().hex}"
    rig = rig_of(
        LayerUnderTest(backend=backend, config={"prefix": prefix}),
        features=FEATURES,
        seed="saboteurs",
        nodes_are="thread",
    )
    engine = Engine()
    if loopback:
        server = loopback_server(prefix)
        engine = Engine(cut=server.drop_connections, ways_to_lose={"it is emptied": Loss(server.lose_all)})
    return find_difference(rig, engine, programmes=50, within=within, shrink=shrink)


@pytest.mark.parametrize("name", [*ON_MEMORY, *ON_LOOPBACK])
def test_saboteur_is_found(name: str) -> None:
    assert found_in(f"tests.model.saboteurs.{name}", loopback=name in ON_LOOPBACK, within=3) is not None


@pytest.mark.parametrize("layer", [MemoryChannelLayer, LoopbackChannelLayer])
def test_without_sabotage_there_is_nothing(layer: type) -> None:
    backend = f"{layer.__module__}.{layer.__qualname__}"
    assert found_in(backend, loopback=layer is LoopbackChannelLayer, within=40) is None


def test_what_is_found_is_short_code_that_runs(tmp_path: Path) -> None:
    found = found_in("tests.model.saboteurs.StaleMembers", loopback=False, within=3, shrink=True)
    assert found is not None
    told, _, code = found.partition("\n\n")
    assert "which was not for it" in told
    steps = code.partition("Programme((")[2].partition("), nodes")[0].strip().splitlines()
    assert 3 <= len(steps) <= 6
    (tmp_path / "programme.py").write_text(code)
    run = subprocess.run(
        [sys.executable, "programme.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [*sys.path, str(Path.cwd())]))},
        check=False,
    )
    assert "which was not for it" in run.stderr, run.stderr
