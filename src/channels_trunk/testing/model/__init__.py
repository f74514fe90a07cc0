"""Random programmes for any channel layer, held against a reference: see ModelSuite.

- `steps`: what a programme consists of;
- `reference`: what each step may come to; `allowances`: where that may be more than one thing;
- `programmes`: random ones, and shorter ones of those that fail;
- `runner`: runs them on the nodes of a layer.
"""

from channels_trunk.testing.model.allowances import Allowance, Difference
from channels_trunk.testing.model.reference import Reference
from channels_trunk.testing.model.stage import Engine, Loss
from channels_trunk.testing.model.steps import (
    Add,
    Close,
    Copy,
    Cut,
    Discard,
    Expire,
    Flush,
    Kill,
    Listen,
    Lose,
    New,
    Programme,
    Receive,
    Renew,
    Restore,
    Send,
    Stop,
)
from channels_trunk.testing.model.suite import ModelSuite, find_difference, replay

__all__ = [
    "Add",
    "Allowance",
    "Close",
    "Copy",
    "Cut",
    "Difference",
    "Discard",
    "Engine",
    "Expire",
    "Flush",
    "Kill",
    "Listen",
    "Lose",
    "Loss",
    "ModelSuite",
    "New",
    "Programme",
    "Receive",
    "Reference",
    "Renew",
    "Restore",
    "Send",
    "Stop",
    "find_difference",
    "replay",
]
