"""Programmes are drawn by their seed, stay in their scope, and get shorter."""

from channels_trunk.testing import Features
from channels_trunk.testing.model import Add, Discard, Engine, Loss, Programme, Receive, Send
from channels_trunk.testing.model import steps as all_steps
from channels_trunk.testing.model.programmes import Scope, draw_programme, shrunk
from channels_trunk.testing.model.steps import owner_of

ENGINE = Engine(cut=list, ways_to_lose={"it crashes": Loss(list)}, copy=lambda: list)
EVERYTHING = Scope.of(Features(), processes=True, engine=ENGINE)


def test_seed_decides() -> None:
    assert draw_programme("a", EVERYTHING) == draw_programme("a", EVERYTHING)
    assert draw_programme("a", EVERYTHING) != draw_programme("b", EVERYTHING)


def test_every_kind_of_step_is_drawn() -> None:
    drawn = {type(step).__name__ for seed in range(60) for step in draw_programme(str(seed), EVERYTHING).steps}
    drawn |= {
        type(step).__name__ for seed in range(60) for step in draw_programme(str(seed), EVERYTHING.with_expiry()).steps
    }
    assert drawn == {kind.__name__ for kind in all_steps.Step.__args__}


def test_what_is_not_claimed_is_left_out() -> None:
    features = Features.of_another_package(
        normal_channels=False, capacity=False, remote_group_add=False, cancellation_safe=False, flush=False
    )
    scope = Scope.of(features, processes=False, engine=Engine())
    for seed in range(60):
        for step in draw_programme(str(seed), scope).steps:
            assert type(step).__name__ not in {
                "Listen",
                "Stop",
                "Flush",
                "Kill",
                "Cut",
                "Expire",
                "Lose",
                "Copy",
                "Restore",
            }
            if isinstance(step, (Add, Discard)):
                assert owner_of(step.channel) == step.node
            if isinstance(step, Send):
                assert step.how in ("one by one", "in one tick")
                assert not {"jobs", "small", "0b", "1b", "2b"} & set(step.to)


def test_code_makes_the_programme() -> None:
    programme = draw_programme("a", EVERYTHING)
    assert eval(repr(programme), vars(all_steps)) == programme


async def test_shrunk_to_what_matters() -> None:
    programme = Programme((*draw_programme("a", EVERYTHING).steps, Send(0, ("g", "1a", "h")), Receive(1, "1a")))

    async def fails(shorter: Programme) -> bool:
        sends = [place for place, step in enumerate(shorter.steps) if isinstance(step, Send) and "1a" in step.to]
        return bool(sends) and Receive(1, "1a") in shorter.steps[sends[0] :]

    shortest = await shrunk(programme, fails)
    assert len(shortest.steps) == 2
    assert isinstance(shortest.steps[0], Send)
    assert shortest.steps[0].to == ("1a",)
