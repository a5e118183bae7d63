#!/bin/sh
# Install what the device tests need (a real sshd and a real adbd). Root on Debian or Ubuntu only;
# does nothing when all of it is there.
set -eu

packages="openssh-server openssh-sftp-server openssh-client mmdebstrap iproute2"

if ! command -v dpkg-query >/dev/null; then
    echo "not Debian or Ubuntu: install by hand what stands for: $packages" >&2
    exit 1
fi

missing=""
for package in $packages; do
    state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$state" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ]; then
    echo "run as root to install:$missing" >&2
    exit 1
fi

export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2086 - a list of names
apt-get install -y -qq --no-install-recommends $missing >/dev/null
