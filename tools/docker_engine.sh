#!/usr/bin/env bash
# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Makes sure that a Docker Engine answers, for the tests that need a real one.
#   tools/docker_engine.sh ensure   use the engine that answers (DOCKER_HOST included), else install and start one
#   tools/docker_engine.sh stop     end the dockerd that `ensure` started itself, and no other
set -euo pipefail

BUILD="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/.build"
PID_FILE="$BUILD/dockerd.pid"
LOG_FILE="$BUILD/dockerd.log"
START_TIMEOUT=60 # seconds

say() { echo "docker_engine: $*"; }
die() { echo "docker_engine: $*" >&2; exit 1; }
answers() { timeout 10 docker version --format '{{.Server.Version}}' 2>/dev/null; }
# The process id in our pid file while it still is a dockerd (ids are reused), else nothing.
own_pid() {
    local pid
    pid="$(cat "$PID_FILE" 2>/dev/null)" && [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = dockerd ] && echo "$pid"
}

install_engine() {
    command -v apt-get >/dev/null || die "no Docker Engine here and no apt-get to install one: install Docker Engine" \
        "for this system (docs.docker.com/engine/install) and start it, then run this again."
    say "installing docker.io and iptables with apt-get"
    local apt=(apt-get -qq -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0) packages=(docker.io iptables)
    export DEBIAN_FRONTEND=noninteractive
    "${apt[@]}" update >/dev/null
    # From Debian 13 on the client is a package of its own.
    if apt-cache show docker-cli >/dev/null 2>&1; then packages+=(docker-cli); fi
    "${apt[@]}" install -y --no-install-recommends "${packages[@]}" </dev/null >"$BUILD/docker-install.log" 2>&1 ||
        { tail -n 20 "$BUILD/docker-install.log" >&2; die "apt-get could not install docker.io (lines above)."; }
}

start_engine() {
    if [ -d /run/systemd/system ]; then
        say "starting docker.service with systemd"
        systemctl start docker.service || die "docker.service did not start: see 'journalctl -u docker -n 50'."
    else
        say "no systemd: starting dockerd itself, log in $LOG_FILE"
        setsid nohup dockerd </dev/null >"$LOG_FILE" 2>&1 9>&- &
        echo $! >"$PID_FILE"
    fi
}

wait_for_engine() {
    local deadline=$((SECONDS + START_TIMEOUT)) version
    until version="$(answers)"; do
        if [ -f "$PID_FILE" ] && ! own_pid >/dev/null; then
            tail -n 20 "$LOG_FILE" >&2
            die "dockerd ended while starting; the end of $LOG_FILE is above."
        fi
        if [ "$SECONDS" -ge "$deadline" ]; then
            tail -n 20 "$LOG_FILE" >&2 || true
            die "no Docker Engine answered within $START_TIMEOUT s."
        fi
        sleep 0.5
    done
    say "Docker Engine $version answers"
}

ensure() {
    local version
    if version="$(answers)"; then say "Docker Engine $version answers"; return; fi
    [ -z "${DOCKER_HOST:-}${DOCKER_CONTEXT:-}" ] || die "nothing answers at DOCKER_HOST='${DOCKER_HOST:-}'" \
        "DOCKER_CONTEXT='${DOCKER_CONTEXT:-}': start that engine, or unset them to use one on this machine."
    [ "$(id -u)" = 0 ] || die "no Docker Engine answers to $(id -un): start it or join the group 'docker'," \
        "or run this as root, which installs and starts one."
    mkdir -p "$BUILD"
    exec 9>"$BUILD/docker_engine.lock"
    flock 9 # a second caller waits for the first one's engine instead of starting another
    if version="$(answers)"; then say "Docker Engine $version answers"; return; fi
    rm -f "$PID_FILE"
    if ! command -v dockerd >/dev/null || ! command -v docker >/dev/null; then install_engine; fi
    start_engine
    wait_for_engine
}

stop() {
    local pid
    pid="$(own_pid)" || { rm -f "$PID_FILE"; say "no dockerd that this script started is running"; return; }
    say "ending dockerd (process $pid)"
    kill "$pid"
    for _ in $(seq 60); do
        own_pid >/dev/null || { rm -f "$PID_FILE"; say "ended"; return; }
        sleep 0.5
    done
    die "dockerd (process $pid) did not end within 30 s; see $LOG_FILE."
}

case "${1:-}" in
    ensure | stop) "$1" ;;
    *) die "usage: ${0##*/} ensure|stop" ;;
esac
