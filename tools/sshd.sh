#!/usr/bin/env bash
# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Prints the command of an sshd for the tests: the installed one, or Debian's packages unpacked in .build/openssh. They are not
# installed, for the package would start a server of its own on all addresses.
set -euo pipefail

BUILD="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/.build/openssh"

if [ -x /usr/sbin/sshd ]; then
    echo /usr/sbin/sshd
    exit
fi
if [ ! -d "$BUILD/root" ]; then
    command -v apt-get >/dev/null || { echo "sshd: there is no sshd and no apt-get to fetch one: install an SSH server." >&2; exit 1; }
    mkdir -p "$BUILD"
    exec 9>"$BUILD/lock"
    flock 9 # a second caller waits until the first one has unpacked everything
    if [ ! -d "$BUILD/root" ]; then
        (cd "$BUILD" && apt-get -qq download openssh-server libwrap0 >/dev/null 2>&1) ||
            { echo "sshd: apt-get could not download openssh-server: run apt-get update, then again." >&2; exit 1; }
        rm -rf "$BUILD/unpacked"
        for package in "$BUILD"/*.deb; do dpkg -x "$package" "$BUILD/unpacked"; done
        mv "$BUILD/unpacked" "$BUILD/root"
    fi
fi
library="$(dirname "$(find "$BUILD/root/usr/lib" "$BUILD/root/lib" -name "libwrap.so.0" 2>/dev/null | head -n 1)")"
echo "env LD_LIBRARY_PATH=$library $BUILD/root/usr/sbin/sshd"
