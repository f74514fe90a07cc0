"""The child process that the doctor starts: `python -m channels_trunk.doctor.answer ALIAS CHANNEL SECONDS`.

It says what happens in lines of JSON: its own channel and its time; that it has received a message; or an error.
"""

import json
import os
import sys
import threading
import time
from typing import Any

import django

__all__ = ["main"]

_ENDS_WITHIN = 60.0


def say(**words: Any) -> None:
    """One line for the parent."""
    sys.stdout.write(json.dumps({"trunk": "doctor", **words}) + "\n")
    sys.stdout.flush()


def main(alias: str, channel: str, within: float) -> None:
    """Answer."""
    # Whatever hangs here, the parent must not wait for ever.
    end = threading.Timer(_ENDS_WITHIN + within, os._exit, [3])
    end.daemon = True
    end.start()
    django.setup()
    from channels.layers import channel_layers

    from channels_trunk.exceptions import ChannelLayerError

    layer = channel_layers[alias]
    try:
        own = layer.sync.new_channel()
        say(channel=own, time=time.time())
        layer.sync.receive(own, timeout=within)
        layer.sync.send(channel, {"type": "trunk.doctor", "from": "child"})
        say(received=True)
    except TimeoutError:
        say(error=f"no message arrived within {within:g} s")
    except ChannelLayerError as error:
        say(error=str(error))
    finally:
        layer.sync.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]))
