"""What authors of channel layers test with: the conformance suite, its peers, and the waiting that needs no sleep.

`channels_trunk.testing.conformance` needs pytest; nothing else here does.
"""

from channels_trunk.testing.features import Features, LayerUnderTest
from channels_trunk.testing.ledger import Audit, audit, numbered
from channels_trunk.testing.waiting import eventually, eventually_blocking

__all__ = ["Audit", "Features", "LayerUnderTest", "audit", "eventually", "eventually_blocking", "numbered"]
