"""The suite: all rules in one class, and how a layer is put under them."""

import os
import secrets
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import pytest

from channels_trunk.testing.conformance.blocking import SyncRules
from channels_trunk.testing.conformance.cancellation import CancellationRules, ChurnRules
from channels_trunk.testing.conformance.capacity import CapacityRules
from channels_trunk.testing.conformance.contexts import ContextRules
from channels_trunk.testing.conformance.delivery import DeliveryRules
from channels_trunk.testing.conformance.expiry import ExpiryRules
from channels_trunk.testing.conformance.extras import EncryptionRules, ResilienceRules, StatisticsRules
from channels_trunk.testing.conformance.groups import GroupRules, RemoteGroupRules
from channels_trunk.testing.conformance.lifecycle import CloseRules, FlushRules, ObjectRules
from channels_trunk.testing.conformance.loops import LoopRules
from channels_trunk.testing.conformance.messages import MessageRules
from channels_trunk.testing.conformance.names import NameRules
from channels_trunk.testing.conformance.processes import ForkRules, KillRules, WorkerRules
from channels_trunk.testing.conformance.rules import applies
from channels_trunk.testing.features import Features, LayerUnderTest
from channels_trunk.testing.rig import Rig

__all__ = ["SEED_VARIABLE", "Suite", "rule_names"]

SEED_VARIABLE = "CHANNELS_TRUNK_SEED"


class Suite(
    NameRules,
    MessageRules,
    DeliveryRules,
    CapacityRules,
    ExpiryRules,
    GroupRules,
    RemoteGroupRules,
    FlushRules,
    CloseRules,
    ObjectRules,
    CancellationRules,
    ChurnRules,
    LoopRules,
    WorkerRules,
    ForkRules,
    KillRules,
    SyncRules,
    ContextRules,
    EncryptionRules,
    StatisticsRules,
    ResilienceRules,
):
    """Every rule for a channel layer. Subclass it under a name that pytest collects, and say which layer it is:

        class TestMyLayer(Suite):
            features = Features.of_another_package()

            @pytest.fixture
            def layer_config(self, tmp_path):
                return LayerUnderTest(backend="my.Layer", config={"path": str(tmp_path / "layer.db")})

    Each test gets a configuration of its own from the fixture; that of one test is the same for all its processes.
    """

    features: ClassVar[Features] = Features()
    """What the layer claims; rules that need more are not run."""
    expected_failures: ClassVar[Mapping[str, str]] = {}
    """What the layer is known to get wrong: names of tests, with or without the part in brackets, and the reason.
    Strict: one that passes fails."""
    occasional_failures: ClassVar[Mapping[str, str]] = {}
    """What it gets wrong in a race that it may win: as above, but one that passes is no failure."""
    left_out: ClassVar[Mapping[str, str]] = {}
    """Tests that are not run, and the reason."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name in rule_names():
            if name in cls.left_out or not applies(getattr(Suite, name), cls.features):
                setattr(cls, name, None)  # pytest does not collect what cannot be called
        if unknown := [name for name in cls.left_out if not hasattr(Suite, name)]:
            raise TypeError(f"{cls.__name__}.left_out: no such test: {', '.join(unknown)}")
        for attribute in ("expected_failures", "occasional_failures"):
            idle = [name for name in getattr(cls, attribute) if getattr(cls, name.partition("[")[0], None) is None]
            if idle:
                raise TypeError(f"{cls.__name__}.{attribute}: no such test, or not run: {', '.join(idle)}")

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run a rule with peers once for each kind of peer."""
        if getattr(metafunc.function, "peers", False):
            metafunc.parametrize("rig", self.features.kinds_of_peers(), indirect=True)

    @pytest.fixture
    def layer_config(self) -> LayerUnderTest:
        """Return the layer under test."""
        raise NotImplementedError("define the fixture layer_config: see channels_trunk.testing.conformance.Suite")

    @pytest.fixture
    def rig(self, request: pytest.FixtureRequest, layer_config: LayerUnderTest) -> Iterator[Rig]:
        """Return what the rule works with."""
        if reason := _reason(self.expected_failures, request):
            request.applymarker(pytest.mark.xfail(reason=reason, strict=True))
        if reason := _reason(self.occasional_failures, request):
            request.applymarker(pytest.mark.xfail(reason=reason, strict=False))
        seed = os.environ.get(SEED_VARIABLE) or secrets.token_hex(4)
        print(f"to repeat this with the same random choices: {SEED_VARIABLE}={seed}")  # noqa: T201 - shown on failure
        rig = Rig(layer_config, features=self.features, seed=seed, peers_are=getattr(request, "param", "process"))
        yield rig
        rig.finish()


def rule_names() -> list[str]:
    """Return the names of all rules."""
    return [name for name in dir(Suite) if name.startswith("test_")]


def _reason(failures: Mapping[str, str], request: pytest.FixtureRequest) -> str | None:
    return failures.get(request.node.name) or failures.get(request.node.originalname)
