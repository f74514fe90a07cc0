#!/usr/bin/env bash
# RabbitMQ 4.3.6: a bind to an auto-delete exchange costs the more the more queues are bound to it already, so that many
# binds cost the square of their number. To an exchange that is not auto-delete each bind costs the same, and so it was
# for both in 4.0.5.
#
# Seen (Erlang's reductions, in thousands, for one bind: the first 200, and 200 when 1,300 are there):
#   4.0.5, auto-delete      2.5 and 2.5
#   4.3.6, auto-delete      15.5 and 102.4
#   4.3.6, not auto-delete  6.7 and 6.6
# Ends with an error if that is no longer so. Takes the packages of Debian trixie and sid from the server that apt's own
# sources name, and unpacks them into a temporary folder; nothing is installed. Needs Debian's apt, python3-venv, epmd.
set -euo pipefail

CLIENT="pika==1.3.2"
OLD_SUITE=trixie OLD="rabbitmq-server=4.0.5-6+deb13u2 erlang-base=1:27.3.4.1+dfsg-1+deb13u4"
NEW_SUITE=sid NEW="rabbitmq-server=4.3.6-1 erlang-base=1:29.1.2+dfsg-1"

# shellcheck source=findings/rabbitmq.inc
source "$(dirname "${BASH_SOURCE[0]}")/rabbitmq.inc"

binds() { # auto_delete: prints the thousands of reductions for one bind at first, and later
    "$work/venv/bin/python" - "$port" "$1" "$scripts/rabbitmqctl" <<'PYTHON'
import subprocess, sys
import pika

port, auto_delete, ctl = int(sys.argv[1]), sys.argv[2] == "yes", sys.argv[3]
channel = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", port)).channel()
channel.exchange_declare("x", exchange_type="direct", auto_delete=auto_delete)
channel.queue_declare("q", durable=True)


def reductions():
    ask = [ctl, "--quiet", "eval", "element(1, erlang:statistics(exact_reductions))."]
    return int(subprocess.run(ask, capture_output=True, check=True, text=True).stdout)


def bind(numbers):
    before = reductions()
    for number in numbers:
        channel.queue_bind("q", "x", f"key.{number}")
    return (reductions() - before) / len(numbers) / 1000


first = bind(range(200))
bind(range(200, 1300))
print(f"{first:.1f} {bind(range(1300, 1500)):.1f}")
channel.queue_delete("q")
channel.exchange_delete("x")
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
old=$(binds yes)
stop
start $NEW_SUITE
new=$(binds yes)
plain=$(binds no)
stop
echo "4.0.5, auto-delete:     $old"
echo "4.3.6, auto-delete:     $new"
echo "4.3.6, not auto-delete: $plain"
grows() { awk '{ exit !($2 > 2 * $1) }' <<<"$1"; }
if grows "$new" && ! grows "$plain" && ! grows "$old"; then
    echo "as written above"
else
    echo "NOT as written above"
    exit 1
fi
