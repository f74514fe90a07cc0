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

work=$(mktemp -d)
broker=""
epmd=""
finish() {
    for pid in $broker $epmd; do
        kill -9 "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    rm -rf "$work"
}
trap finish EXIT

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

fetch() { # SUITE PACKAGE=VERSION ...
    local suite=$1 keyring=/usr/share/keyrings/debian-archive-keyring.gpg mirror loader real
    shift
    local home="$work/$suite" root="$work/$suite/root"
    mkdir -p "$home/lists/partial" "$home/archives/partial" "$root"
    touch "$home/status"
    mirror=$(apt-get indextargets --format '$(RELEASE) $(REPO_URI)' 'Created-By: Packages' | awk '$1 !~ /-/ { print $2; exit }')
    printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\nSigned-By: %s\n' "$mirror" "$suite" "$keyring" >"$home/s.sources"
    local apt=(apt-get -qq -y -o Dir::State="$home" -o Dir::State::Lists="$home/lists" -o Dir::State::status="$home/status"
        -o Dir::Cache="$home" -o Dir::Cache::Archives="$home/archives" -o Dir::Etc::SourceList="$home/s.sources"
        -o Dir::Etc::SourceParts=/dev/null -o APT::Sandbox::User= -o Debug::NoLocking=true)
    "${apt[@]}" update
    "${apt[@]}" --no-install-recommends --download-only install "$@" >/dev/null
    for package in "$home"/archives/*.deb; do dpkg-deb --extract "$package" "$root"; done
    # What was built for another C library is run by that library's own loader.
    loader=$(echo "$root"/usr/lib/*-linux-gnu*/ld-linux-*.so.*)
    for program in "$root"/usr/lib/erlang/bin/* "$root"/usr/lib/erlang/erts-*/bin/* "$root"/usr/lib/erlang/lib/os_mon-*/priv/bin/*; do
        [ "$(head -c4 "$program" | tr -d '\0')" = $'\x7fELF' ] && [ ! -L "$program" ] || continue
        real="$program.elf"
        mv "$program" "$real"
        printf '#!/bin/sh\nexec %s --library-path %s --argv0 %s %s "$@"\n' "$loader" "${loader%/*}" "$program" "$real" >"$program"
        chmod 755 "$program"
    done
    sed -i "s|/usr/lib/erlang|$root/usr/lib/erlang|g" "$root"/usr/lib/erlang/bin/erl "$root"/usr/lib/erlang/erts-*/bin/erl
}

start() { # SUITE
    local home="$work/run-$1" root="$work/$1/root"
    mkdir "$home"
    port=$(free_port)
    export PATH="$root/usr/lib/erlang/bin:$PLAIN_PATH" HOME="$home"
    export RABBITMQ_NODENAME=finding@localhost RABBITMQ_MNESIA_BASE="$home/data" RABBITMQ_LOG_BASE="$home/log" RABBITMQ_LOGS=-
    export RABBITMQ_CONFIG_FILE="$home/rabbitmq" RABBITMQ_ENABLED_PLUGINS_FILE="$home/plugins" RABBITMQ_CONF_ENV_FILE=/dev/null
    RABBITMQ_DIST_PORT=$(free_port)
    export RABBITMQ_DIST_PORT RABBITMQ_ALLOW_INPUT=1 RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="-noinput -start_epmd false"
    printf 'listeners.tcp.1 = 127.0.0.1:%s\ndisk_free_limit.absolute = 1MB\n' "$port" >"$home/rabbitmq.conf"
    echo '[].' >"$home/plugins"
    scripts=$(echo "$root"/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin)
    "$scripts/rabbitmq-server" >"$home/out" 2>&1 &
    broker=$!
    for _ in $(seq 600); do
        python3 -c "import socket; socket.create_connection(('127.0.0.1', $port), 1)" 2>/dev/null && return
        kill -0 "$broker" || break
        sleep 0.2
    done
    tail -20 "$home/out" >&2
    exit 1
}

stop() {
    kill -9 "$broker"
    wait "$broker" 2>/dev/null || true
    broker=""
}

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

PLAIN_PATH=$PATH
ERL_EPMD_PORT=$(free_port)
export ERL_EPMD_PORT ERL_EPMD_ADDRESS=127.0.0.1
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check "$CLIENT"
# shellcheck disable=SC2086 # one word each
fetch $OLD_SUITE $OLD
# shellcheck disable=SC2086
fetch $NEW_SUITE $NEW
"$work/$NEW_SUITE"/root/usr/lib/erlang/bin/epmd -address 127.0.0.1 &
epmd=$!

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
