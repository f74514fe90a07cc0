"""Large frames: the memory of one serves the next."""

import platform
import subprocess
import sys

import pytest

_CARRY = """
import resource
from channels_trunk.codec import Codec
from channels_trunk.envelope import Envelope, Kind

codec = Codec(serializer_format="msgpack", cipher=None)

def carry():
    body = codec.pack({"payload": "x" * 1_000_000})
    _, [envelope] = codec.decode_frame(codec.encode_frame("node", [Envelope(Kind.GROUP, "room", 2e9, body)]))
    return codec.unpack(envelope.body)

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

for _ in range(5):
    carry()
before = faults()
for _ in range(20):
    carry()
print((faults() - before) // 20)
"""


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="other C libraries keep freed memory by rules of their own"
)
def test_large_messages_do_not_get_new_pages_each() -> None:
    """A message of 1 MB has 245 pages, and without keep_room() some 900 page faults."""
    done = subprocess.run([sys.executable, "-c", _CARRY], capture_output=True, text=True, check=True, timeout=60)
    assert int(done.stdout) < 100
