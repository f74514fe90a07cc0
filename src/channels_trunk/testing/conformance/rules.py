"""How a rule is written: a method of a class of rules, decorated with @rule."""

import functools
from collections.abc import Awaitable, Callable
from typing import Any

from channels_trunk.testing.features import Features
from channels_trunk.testing.rig import Rig

__all__ = ["applies", "blocking_rule", "rule"]


def rule(*needs: str, peers: bool = False, within: float = 40) -> Callable[[Callable[..., Any]], Callable[..., None]]:
    """Make a test of a coroutine function: it runs in a loop of its own and fails after `within` seconds, or
    longer where the layer under test has more patience than 1.

    `needs` are names of Features. With `peers`, the rule is run twice: its peers are layer objects in threads of this
    process, and processes.
    """
    if unknown := set(needs) - Features.names():
        raise TypeError(f"no such features: {sorted(unknown)}")

    def decorate(body: Callable[..., Awaitable[None]]) -> Callable[..., None]:
        @functools.wraps(body)
        def test(self: Any, rig: Rig, **arguments: Any) -> None:
            rig.run(lambda: body(self, rig, **arguments), within=within)

        test.needs = needs  # type: ignore[attr-defined]
        test.peers = peers  # type: ignore[attr-defined]
        return test

    return decorate


def blocking_rule(*needs: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a test of a plain function, which runs without an event loop and limits its own waiting."""
    if unknown := set(needs) - Features.names():
        raise TypeError(f"no such features: {sorted(unknown)}")

    def decorate(body: Callable[..., None]) -> Callable[..., None]:
        body.needs = needs  # type: ignore[attr-defined]
        return body

    return decorate


def applies(test: object, features: Features) -> bool:
    """Return whether a layer with these features has to keep the rule."""
    if not features.include(getattr(test, "needs", ())):
        return False
    return bool(features.kinds_of_peers()) or not getattr(test, "peers", False)
