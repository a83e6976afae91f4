#!/usr/bin/env bash
# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Makes sure that a Podman of the tests' own answers as a Docker Engine, beside the real one and without systemd.
#   tools/podman_engine.sh ensure   install Podman with apt-get where it is missing, and serve its API at .build/podman/podman.sock
#   tools/podman_engine.sh load IMAGE...   bring images of the Docker Engine into it, those that it has not yet
#   tools/podman_engine.sh stop     end what `ensure` started, and no other
# Images, containers and networks of this Podman are below .build/podman and are seen by no other.
set -euo pipefail

HOME_DIR="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)/.build/podman"
SOCKET="$HOME_DIR/podman.sock"
PID_FILE="$HOME_DIR/podman.pid"
LOG_FILE="$HOME_DIR/podman.log"
PODMAN=(podman --root "$HOME_DIR/storage" --runroot "$HOME_DIR/run" --tmpdir "$HOME_DIR/tmp")
START_TIMEOUT=60 # seconds

say() { echo "podman_engine: $*"; }
die() { echo "podman_engine: $*" >&2; exit 1; }
answers() { timeout 10 docker -H "unix://$SOCKET" version --format '{{.Server.Version}}' 2>/dev/null; }
# The lower one of a limit of this shell and a number: ulimit says "unlimited" for none.
limit() { local value; value="$(ulimit "$1")"; if [ "$value" = unlimited ] || [ "$value" -gt "$2" ]; then value="$2"; fi; echo "$value"; }
own_pid() {
    local pid
    pid="$(cat "$PID_FILE" 2>/dev/null)" && [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = podman ] && echo "$pid"
}

# What makes the containers' network: from Podman 5 on it knows netavark only; 4.3 is tried with CNI.
backend() { if [ "${1%%.*}" -lt 5 ]; then echo cni; else echo netavark; fi; }

install_podman() {
    command -v apt-get >/dev/null || die "no podman here and no apt-get to install it: install it for this system, then run this again."
    say "installing podman with apt-get"
    local apt=(apt-get -qq -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0)
    export DEBIAN_FRONTEND=noninteractive
    "${apt[@]}" update >/dev/null || die "apt-get update failed: this machine must reach its package archive."
    # runc comes with docker.io; catatonit is the init that containers get; the last makes their network, see backend.
    local packages=(podman runc catatonit iptables) version
    version="$(apt-cache show --no-all-versions podman | sed -n 's/^Version: //p')"
    if [ "$(backend "$version")" = cni ]; then packages+=(containernetworking-plugins); else packages+=(netavark); fi
    "${apt[@]}" install -y --no-install-recommends "${packages[@]}" </dev/null >"$HOME_DIR/install.log" 2>&1 ||
        { tail -n 20 "$HOME_DIR/install.log" >&2; die "apt-get could not install podman (lines above)."; }
}

ensure() {
    [ "$(id -u)" = 0 ] || die "run this as root: rootless Podman is not what the tests are about."
    [ "${#SOCKET}" -le 100 ] || die "$SOCKET is too long for a socket: put this checkout at a shorter path."
    mkdir -p "$HOME_DIR"
    exec 9>"$HOME_DIR/lock"
    flock 9 # a second caller waits for the first one's
    local version
    if version="$(answers)"; then say "Podman $version answers at $SOCKET"; return; fi
    command -v podman >/dev/null || install_podman
    version="$(podman --version | sed 's/[^0-9]*//')"
    # Podman asks for more than a process can have where nobody may raise limits, as inside another container.
    # Podman lowers its own number of processes to the kernel's highest process id.
    local files processes
    files="$(limit -Hn 1048576)" processes="$(limit -Hu "$(cat /proc/sys/kernel/pid_max)")"
    cat >"$HOME_DIR/containers.conf" <<EOF
[containers]
default_ulimits = ["nofile=$files:$files", "nproc=$processes:$processes"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
# The locks in shared memory are those of every Podman of this machine.
lock_type = "file"
[network]
network_backend = "$(backend "$version")"
network_config_dir = "$HOME_DIR/networks"
EOF
    CONTAINERS_CONF="$HOME_DIR/containers.conf" setsid nohup "${PODMAN[@]}" \
        system service --time=0 "unix://$SOCKET" </dev/null >"$LOG_FILE" 2>&1 9>&- &
    echo $! >"$PID_FILE"
    local deadline=$((SECONDS + START_TIMEOUT))
    until version="$(answers)"; do
        if ! own_pid >/dev/null || [ "$SECONDS" -ge "$deadline" ]; then
            tail -n 20 "$LOG_FILE" >&2
            die "podman does not answer at $SOCKET; the end of $LOG_FILE is above."
        fi
        sleep 0.2
    done
    say "Podman $version answers at $SOCKET"
}

load() {
    local image id
    for image in "$@"; do
        id="$(docker image inspect --format '{{.Id}}' "$image")" || die "the Docker Engine has no image $image"
        if [ "$(docker -H "unix://$SOCKET" image inspect --format '{{.Id}}' "localhost/$image" 2>/dev/null)" = "$id" ]; then continue; fi
        say "loading $image"
        docker save "$image" | docker -H "unix://$SOCKET" load >/dev/null
    done
}

stop() {
    local pid
    pid="$(own_pid)" || { rm -f "$PID_FILE"; say "no podman that this script started is running"; return; }
    say "ending podman (process $pid)"
    kill "$pid"
    for _ in $(seq 60); do
        own_pid >/dev/null || { rm -f "$PID_FILE" "$SOCKET"; say "ended"; return; }
        sleep 0.5
    done
    die "podman (process $pid) did not end within 30 s; see $LOG_FILE."
}

case "${1:-}" in
    ensure | stop) "$1" ;;
    load) shift && load "$@" ;;
    *) die "usage: ${0##*/} ensure | load IMAGE... | stop" ;;
esac
