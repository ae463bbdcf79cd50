#!/usr/bin/env bash
# Makes the base image of the tests from Debian's packages: what the Dockerfiles ask of a base and
# nothing else. Its pip looks into /ci/wheels alone, which the builds mount. Needs root.
#
#   tests/deploy/base_image.sh FOLDER PODMAN IMAGE
set -euo pipefail
folder=$1 podman=$2 image=$3
"$podman" image exists "$image" && exit 0
root="$folder/base" log="$folder/debootstrap.log"
rm -rf "$root"
debootstrap --variant=minbase --include=python3-venv bookworm "$root" >"$log" 2>&1 || {
    tail -n 20 "$log" >&2
    exit 1
}
rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*
mkdir -p "$root/ci/wheels" "$root/ci/locks"
printf '[global]\nno-index = true\nfind-links = /ci/wheels\n' >"$root/etc/pip.conf"
tar -C "$root" -c . | "$podman" import -q - "$image" >/dev/null
rm -rf "$root"
