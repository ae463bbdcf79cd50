#!/usr/bin/env bash
# Brings into FOLDER what `make test-deploy` runs: Python packages from hashed locks; nginx and
# promtool, from the machine or from Debian's packages, which it unpacks there; podman and a base for
# the images, which root alone can install. Without root, and without podman, no image is built.
#
#   tests/deploy/tools.sh FOLDER UV PYTHON
set -euo pipefail
folder=$1 uv=$2 python=$3
mkdir -p "$folder/bin" "$folder/debian"
folder=$(cd "$folder" && pwd)

# packages PACKAGE..: unpacks Debian packages; with package lists of its own where there are none
packages() {
    local work="$folder/apt" own
    mkdir -p "$work/lists/partial" "$work/cache" && cd "$work"
    own=(-o "Dir::State::Lists=$work/lists" -o "Dir::Cache=$work/cache")
    apt-get -qq download "$@" 2>/dev/null \
        || { apt-get -qq "${own[@]}" update && apt-get -qq "${own[@]}" download "$@"; }
    for package in *.deb; do dpkg-deb -x "$package" "$folder/debian"; done
    cd - >/dev/null
    rm -rf "$work"
}

# program NAME PACKAGE: links the machine's own, or the one of a Debian package
program() {
    local name=$1 package=$2 found
    if ! found=$(PATH="$PATH:/usr/sbin:/sbin" command -v "$name"); then
        command -v apt-get dpkg-deb >/dev/null || {
            echo "test-deploy needs $name: install it (Debian's package is $package)" >&2
            exit 1
        }
        packages "$package"
        found=$(find "$folder/debian/usr" -path "*/*bin/$name" | head -n 1)
    fi
    ln -sf "$found" "$folder/bin/$name"
    "$folder/bin/$name" --version >/dev/null 2>&1 || "$folder/bin/$name" -v 2>/dev/null || {
        echo "test-deploy needs $name, and $found does not run" >&2
        exit 1
    }
}

program nginx nginx
program promtool prometheus

rm -rf "$folder/python"
"$uv" pip install -q --require-hashes --python "$python" --target "$folder/python" \
    -r requirements/deploy/tests.txt
"$uv" venv -q --allow-existing --python "$python" "$folder/checkov"
"$uv" pip sync -q --require-hashes --python "$folder/checkov" requirements/deploy/checkov.txt
ln -sf "$folder/checkov/bin/checkov" "$folder/bin/checkov"

# has PROGRAM..: whether all of them are there
has() {
    for name in "$@"; do command -v "$name" >/dev/null || return 1; done
}

install() { apt-get install -qq --no-install-recommends "$@" >/dev/null; }

if [ "$(id -u)" = 0 ] && has apt-get && ! has podman runc debootstrap; then
    needed=(podman runc netavark aardvark-dns catatonit debootstrap)
    install "${needed[@]}" 2>/dev/null || { apt-get -qq update && install "${needed[@]}"; }
fi
if [ "$(id -u)" = 0 ] && has podman runc debootstrap; then
    run="/run/sightline-$(printf %s "$folder" | cksum | cut -d " " -f 1)"
    cat >"$folder/bin/podman" <<EOF
#!/bin/sh
CONTAINERS_CONF=$PWD/tests/deploy/containers.conf \\
    exec $(command -v podman) --root "$folder/containers" --runroot "$run" "\$@"
EOF
    chmod +x "$folder/bin/podman"
    "$python" -m venv "$folder/pip"
    tests/deploy/base_image.sh "$folder" "$folder/bin/podman" localhost/sightline-base:bookworm
else
    rm -f "$folder/bin/podman"
    echo "test-deploy builds no images: that needs root, podman, runc and debootstrap" >&2
fi
