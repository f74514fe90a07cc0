#!/usr/bin/env bash
# RabbitMQ 4.0.5 and 4.3.6: a quorum queue counts among its consumers who has only taken a message by basic.get and not
# acknowledged it, and so does the answer to queue.declare. A classic queue does not. So "the queue has no consumer"
# is no test for "nobody consumes" of quorum queues, and a policy or a client that waits for it may wait for long.
#
# Seen (consumer_count in the answer to a passive queue.declare, while one message is held by basic.get):
#   classic 0, quorum 1, in both versions; 0 again when the message is acknowledged
# Ends with an error if that is no longer so. Takes the packages of Debian trixie and sid from the server that apt's own
# sources name, and unpacks them into a temporary folder; nothing is installed. Needs Debian's apt, python3-venv, epmd.
set -euo pipefail

CLIENT="pika==1.3.2"
OLD_SUITE=trixie OLD="rabbitmq-server=4.0.5-6+deb13u2 erlang-base=1:27.3.4.1+dfsg-1+deb13u4"
NEW_SUITE=sid NEW="rabbitmq-server=4.3.6-1 erlang-base=1:29.1.2+dfsg-1"

# shellcheck source=findings/rabbitmq.inc
source "$(dirname "${BASH_SOURCE[0]}")/rabbitmq.inc"

counts() { # prints the consumers of a classic and of a quorum queue while a message is held, and afterwards
    "$work/venv/bin/python" - "$port" <<'PYTHON'
import sys
import pika

connection = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", int(sys.argv[1])))
holder, other = connection.channel(), connection.channel()
counts = []
for kind in ("classic", "quorum"):
    holder.queue_declare(kind, durable=True, arguments={"x-queue-type": kind})
    holder.confirm_delivery()
    holder.basic_publish("", kind, b"a message")
    method, _, _ = holder.basic_get(kind)
    while method is None:
        method, _, _ = holder.basic_get(kind)
    held = other.queue_declare(kind, passive=True).method.consumer_count
    holder.basic_ack(method.delivery_tag)
    for _ in range(100):
        after = other.queue_declare(kind, passive=True).method.consumer_count
        if after == 0:
            break
        connection.sleep(0.1)
    counts += [held, after]
print(*counts)
PYTHON
}

python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check "$CLIENT"
# shellcheck disable=SC2086 # one word each
fetch $OLD_SUITE $OLD
# shellcheck disable=SC2086
fetch $NEW_SUITE $NEW
start_epmd $NEW_SUITE
start $OLD_SUITE
old=$(counts)
stop
start $NEW_SUITE
new=$(counts)
stop
echo "4.0.5: classic held, after; quorum held, after: $old"
echo "4.3.6: classic held, after; quorum held, after: $new"
if [ "$old" = "0 0 1 0" ] && [ "$new" = "0 0 1 0" ]; then
    echo "as written above"
else
    echo "NOT as written above"
    exit 1
fi
