"""What the project promises or aims at, alone and against its peers, and whether a run shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trunkbench.driver import Outcome

# (workload, peer, figure)
Place = tuple[str, str, str]
Outcomes = Mapping[tuple[str, str], Outcome]


@dataclass(frozen=True, kw_only=True)
class Target:
    """A figure of ours, or its ratio to one of a peer. No bound: it is shown and not judged."""

    title: str
    ours: Place
    theirs: Place | None = None
    rivals: tuple[Place, ...] = ()
    """In place of `theirs`: the best of these whose ledger shows no fault."""
    proofs: tuple[str, ...] = ()
    """Workloads in which a rival's ledger must show no fault as well."""
    at_least: float | None = None
    at_most: float | None = None

    @property
    def words(self) -> str:
        """The bound as a reader says it."""
        if self.at_least is not None:
            return f"at least {_number(self.at_least)}"
        return f"at most {_number(self.at_most)}" if self.at_most is not None else "none"

    def met_by(self, value: float) -> bool | None:
        """Whether this value keeps it; None where there is no bound."""
        if self.at_least is not None:
            return value >= self.at_least
        return value <= self.at_most if self.at_most is not None else None

    def opponent(self, outcomes: Outcomes) -> Place | None:
        """Whom this run compares with; None when that is nobody."""
        if self.theirs:
            return self.theirs if self.theirs[:2] in outcomes else None
        found = [place for place in self.rivals if _usable(place, outcomes) and self._is_proven(place, outcomes)]
        return max(found, key=lambda place: outcomes[place[:2]].middle(place[2]) or 0.0, default=None)

    def _is_proven(self, rival: Place, outcomes: Outcomes) -> bool:
        found = [outcomes.get((workload, rival[1])) for workload in self.proofs]
        return all(outcome is not None and outcome.clean for outcome in found)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _usable(place: Place, outcomes: Outcomes) -> bool:
    outcome = outcomes.get(place[:2])
    return outcome is not None and outcome.clean and outcome.middle(place[2]) is not None


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One target against this run."""

    target: Target
    value: float | None
    by_round: Sequence[float] = ()
    clean: bool = True
    opponent: Place | None = None

    @property
    def met(self) -> bool | None:
        """None if it cannot be said. A figure of ours with a fault in its ledger keeps no promise."""
        if self.value is None:
            return None
        met = self.target.met_by(self.value)
        return met if self.clean or met is None else False


def judge(target: Target, outcomes: Outcomes) -> Verdict:
    """The value from the medians, and from each round, as the measurements of a round are neighbours in time."""
    ours, opponent = outcomes.get(target.ours[:2]), target.opponent(outcomes)
    alone = not target.theirs and not target.rivals
    if ours is None or (opponent is None and not alone):
        return Verdict(target=target, value=None)
    tops, top = ours.by_round(target.ours[2]), ours.middle(target.ours[2])
    if opponent is None:
        by_round = [each for each in tops if each is not None]
        return Verdict(target=target, value=top, by_round=by_round, clean=ours.clean)
    theirs = outcomes[opponent[:2]]
    bottoms, bottom = theirs.by_round(opponent[2]), theirs.middle(opponent[2])
    value = top / bottom if top is not None and bottom else None
    by_round = [mine / other for mine, other in zip(tops, bottoms, strict=False) if mine is not None and other]
    return Verdict(target=target, value=value, by_round=by_round, clean=ours.clean, opponent=opponent)
