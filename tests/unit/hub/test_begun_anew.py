"""A hub that is begun anew by another thread in the moment in which it ends."""

import threading
from typing import Any

import pytest

from channels_trunk.hub import living
from channels_trunk.layers import MemoryChannelLayer

# For another thread that is not to come in: it only makes the test longer that it does not.
_A_WHILE = 0.3


@pytest.mark.parametrize("moment", ["living", "outbox"])
def test_the_end_of_one_run_is_no_part_of_the_next(monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    layer = MemoryChannelLayer(prefix="anew")
    layer.sync.new_channel()
    hub = layer._hub
    begun: list[threading.Thread] = []
    was_idle: list[bool] = []

    def in_between(then: Any) -> Any:
        def ending(*args: Any) -> Any:
            if not begun:
                begun.append(threading.Thread(target=hub.start))
                begun[0].start()
                begun[0].join(_A_WHILE)
                was_idle.append(hub.is_idle)
            return then(*args)

        return ending

    if moment == "living":
        monkeypatch.setattr(living, "ended", in_between(living.ended))
    else:
        monkeypatch.setattr(hub.publisher, "drop_unasked", in_between(hub.publisher.drop_unasked))
    hub.close_blocking()
    begun[0].join()
    assert was_idle == [True]
    assert hub in living.all_living()
    layer.sync.close()
    assert hub not in living.all_living()
