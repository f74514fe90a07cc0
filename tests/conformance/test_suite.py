"""The suite itself: its ledger, its waiting, its peers, and what it makes of expected failures."""

import asyncio
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from channels_trunk.testing import Features, LayerUnderTest, audit, eventually, eventually_blocking, numbered
from channels_trunk.testing.conformance import Suite
from channels_trunk.testing.processes import PeerGone
from channels_trunk.testing.rig import Rig


def messages(*entries: tuple[str, int]) -> list[dict[str, Any]]:
    return [numbered(sender, number) for sender, number in entries]


def test_ledger_of_a_clean_run() -> None:
    result = audit(messages(("a", 0), ("b", 0), ("a", 1)), sent={"a": 2, "b": 1})
    assert result.clean
    assert str(result) == "each message once and in order"


@pytest.mark.parametrize(
    ("received", "words"),
    [
        (messages(("a", 0)), "1 lost: ('a', 1)"),
        (messages(("a", 0), ("a", 1), ("a", 1)), "1 repeated: ('a', 1)"),
        (messages(("a", 0), ("a", 1), ("a", 2)), "1 unexpected: ('a', 2)"),
        (messages(("a", 1), ("a", 0)), "1 disordered: (('a', 1), ('a', 0))"),
    ],
    ids=["lost", "repeated", "unexpected", "disordered"],
)
def test_ledger_names_what_is_wrong(received: list[dict[str, Any]], words: str) -> None:
    result = audit(received, sent={"a": 2})
    assert not result.clean
    assert str(result) == words


async def test_eventually_returns_what_it_waited_for() -> None:
    values = iter([0, None, "", "there"])
    assert await eventually(lambda: next(values)) == "there"

    async def later() -> str:
        return next(more)

    more = iter(["", "there"])
    assert await eventually(later) == "there"
    more = iter(["", "there"])
    assert eventually_blocking(lambda: next(more)) == "there"


async def test_eventually_says_what_it_saw_last() -> None:
    nothing: list[str] = []
    with pytest.raises(TimeoutError, match=r"not within 0.01 s: .*test_suite.py.*; the last value was \[\]"):
        await eventually(lambda: nothing, within=0.01)
    with pytest.raises(TimeoutError, match=r"not within 0.01 s: three messages; the last value was 0"):
        eventually_blocking(lambda: 0, within=0.01, what="three messages")


@pytest.mark.parametrize(
    "attributes",
    [
        {"expected_failures": {"test_mistyped": "reason"}},
        {"occasional_failures": {"test_mistyped": "reason"}},
        {"left_out": {"test_mistyped": "reason"}},
        {"features": Features(groups=False), "expected_failures": {"test_many_members": "not run"}},
        {"left_out": {"test_many_members": "reason"}, "expected_failures": {"test_many_members": "not run"}},
    ],
    ids=[
        "expected, unknown",
        "occasional, unknown",
        "left out, unknown",
        "expected, not claimed",
        "expected, left out",
    ],
)
def test_names_that_say_nothing_are_refused(attributes: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="no such test"):
        type("TestSomething", (Suite,), attributes)


def test_rules_that_are_not_claimed_are_not_run() -> None:
    class Modest(Suite):
        features = Features(groups=False)

    assert not callable(vars(Modest)["test_many_members"])
    assert "test_order_within_one_node" not in vars(Modest)


def test_as_another_package_would_use_it(tmp_path: Path) -> None:
    """With nothing but pytest: what passes, what fails, and an expected failure that passes after all."""
    file = tmp_path / "test_theirs.py"
    file.write_text(
        textwrap.dedent(
            """
            import pytest
            from channels_trunk.testing import Features, LayerUnderTest
            from channels_trunk.testing.conformance import Suite

            class TestTheirs(Suite):
                features = Features.of_another_package(crosses_processes=False, several_layers=False)
                expected_failures = {
                    "test_tuple_arrives_as_a_list": "known",
                    "test_close_of_an_unused_layer": "believed, and wrong",
                    "test_message_arrives_as_it_was_sent[bytes]": "believed of one sample, and wrong",
                }
                occasional_failures = {
                    "test_message_that_is_no_dict_raises_type_error": "this time it fails",
                    "test_order_within_one_node": "this time it passes",
                }

                @pytest.fixture
                def layer_config(self):
                    return LayerUnderTest(backend="channels.layers.InMemoryChannelLayer")
            """
        )
    )
    chosen = "tuple or unused_layer or arrives_as_it or no_dict or order_within_one_node or ascii_to_its_end"
    command = [sys.executable, "-m", "pytest", "-rA", "-p", "no:cacheprovider", str(file), "-k", chosen]
    environment = {"CHANNELS_TRUNK_SEED": "abc", "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run(
        command,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=50,
        env=environment,
        check=False,
    )
    assert run.returncode == 1, run.stdout + run.stderr
    theirs = "test_theirs.py::TestTheirs::"
    assert f"XFAIL {theirs}test_tuple_arrives_as_a_list - known" in run.stdout
    assert f"FAILED {theirs}test_close_of_an_unused_layer" in run.stdout
    assert f"FAILED {theirs}test_message_arrives_as_it_was_sent[bytes]" in run.stdout
    assert f"PASSED {theirs}test_message_arrives_as_it_was_sent[text]" in run.stdout
    assert f"XFAIL {theirs}test_message_that_is_no_dict_raises_type_error - this time it fails" in run.stdout
    assert f"XPASS {theirs}test_order_within_one_node - this time it passes" in run.stdout
    assert f"FAILED {theirs}test_channel_name_is_ascii_to_its_end" in run.stdout
    assert "CHANNELS_TRUNK_SEED=abc" in run.stdout


def rig_of(tmp_path: Path, *, patience: float = 1.0) -> Rig:
    under_test = LayerUnderTest(
        backend="channels_trunk.layers.SQLiteChannelLayer",
        config={"path": str(tmp_path / "channels.sqlite3")},
        patience=patience,
    )
    return Rig(under_test, features=Features(), seed="suite")


def test_what_a_peer_raises_is_raised_here(tmp_path: Path) -> None:
    rig = rig_of(tmp_path)

    async def main() -> None:
        peer = await rig.process()
        with pytest.raises(TypeError, match="message") as caught:
            await peer.send("channel", {"bad": object})
        assert "layers/base.py" in "".join(caught.value.__notes__)
        with pytest.raises(TimeoutError):
            await peer.receive("channel", within=0.01)

    rig.run(main, within=30)


def test_killed_peer_answers_no_more(tmp_path: Path) -> None:
    rig = rig_of(tmp_path)

    async def main() -> None:
        peer = await rig.process()
        waiting = peer.start("receive", "channel")
        await peer.new_channel()
        peer.kill()
        with pytest.raises(PeerGone):
            await waiting
        with pytest.raises(PeerGone):
            await peer.new_channel()
        await peer.gone()

    rig.run(main, within=30)


def test_peer_that_does_not_end_is_killed_and_told_of(tmp_path: Path) -> None:
    rig = rig_of(tmp_path, patience=0.01)
    pids: list[int] = []

    async def main() -> None:
        peer = await rig.process()
        pids.append(peer.pid)
        peer.freeze()

    with pytest.raises(AssertionError, match=r"did not end when its layer was closed"):
        rig.run(main, within=30)
    assert not Path(f"/proc/{pids[0]}").exists()


def test_rule_that_hangs_is_ended(tmp_path: Path) -> None:
    rig = rig_of(tmp_path)

    async def main() -> None:
        await rig.layer().receive("nothing")

    with pytest.raises(TimeoutError):
        rig.run(main, within=0.1)


def test_errors_that_nobody_sees_fail_the_rule(tmp_path: Path) -> None:
    rig = rig_of(tmp_path)

    async def main() -> None:
        rig.layer()
        asyncio.get_running_loop().call_soon(_raise)
        await asyncio.sleep(0)

    with pytest.raises(AssertionError, match=r"errors in the event loop:\n.*nobody"):
        rig.run(main, within=10)


def _raise() -> None:
    raise RuntimeError("nobody sees this")


def test_random_choices_can_be_repeated(tmp_path: Path) -> None:
    draws: list[Callable[[], float]] = [rig_of(tmp_path).random.random for _ in range(2)]
    assert draws[0]() == draws[1]()
