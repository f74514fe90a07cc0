"""The suite's rules with the numbers that the project promises."""

from pathlib import Path

import pytest

from channels_trunk.testing import Features, LayerUnderTest
from channels_trunk.testing.conformance.processes import run_workers
from channels_trunk.testing.rig import Rig

PLENTY = 1_000_000


@pytest.mark.acceptance
@pytest.mark.timeout(300)
def test_twenty_thousand_jobs_for_four_worker_processes(tmp_path: Path) -> None:
    """Each job exactly once, and no worker is left out."""
    under_test = LayerUnderTest(
        backend="channels_trunk.layers.SQLiteChannelLayer",
        config={"path": str(tmp_path / "channels.sqlite3"), "capacity": PLENTY},
    )
    rig = Rig(under_test, features=Features(), seed="jobs")

    async def main() -> None:
        here, workers = rig.here(), await rig.peers(4)
        done = await run_workers("jobs", count=20_000, senders=[here], workers=workers, within=200)
        assert all(done), [len(got) for got in done]

    rig.run(main, within=250)
