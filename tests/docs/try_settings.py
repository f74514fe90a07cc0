"""Has Django check the settings, sends a message through each layer, and prints what was found as JSON."""

import json
from typing import Any

import django


def exchange(layer: Any) -> bool:
    """Whether a message to a normal channel, and one to a group, come back."""
    channel = layer.sync.new_channel()
    layer.sync.group_add("docs", channel)
    layer.sync.group_send("docs", {"type": "hello"})
    layer.sync.send("docs", {"type": "hello"})
    received = [layer.sync.receive(name, timeout=10) for name in (channel, "docs")]
    layer.sync.close()
    return received == [{"type": "hello"}] * 2


def main() -> None:
    """Print one line."""
    django.setup()
    from channels.layers import get_channel_layer
    from django.conf import settings
    from django.core.checks import WARNING, run_checks

    messages = [m.id for m in run_checks() if m.level >= WARNING and not m.is_silenced()]
    works = {alias: exchange(get_channel_layer(alias)) for alias in settings.CHANNEL_LAYERS}
    print(json.dumps({"messages": messages, "works": works}))


if __name__ == "__main__":
    main()
