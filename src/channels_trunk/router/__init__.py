"""A node's mailboxes and its part of the groups: pure state. Time is an argument; what follows is returned as effects.

Nothing in here locks, waits or does I/O. The hub calls it with its lock held and carries the effects out afterwards.
"""

from .effects import Effects, Waiter
from .mailbox import Mailbox
from .router import FULL, Router
from .shared import Body
from .windows import ANSWER_WITHIN, Verdict, Windows

__all__ = ["ANSWER_WITHIN", "FULL", "Body", "Effects", "Mailbox", "Router", "Verdict", "Waiter", "Windows"]
