#!/bin/sh
# Install what the device tests need (a real sshd and a real adbd). Root on Debian or Ubuntu only;
# does nothing when all of it is there. Exit 1 and the reason on stderr when something stays missing.
set -eu

packages="openssh-server openssh-sftp-server openssh-client mmdebstrap iproute2"
packages="$packages gcc libc6-dev gcc-aarch64-linux-gnu libc6-dev-arm64-cross"  # the native runner
packages="$packages busybox mksh"  # the shells of small boards and of Android

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

# No server may start on the machine itself: the tests start their own. Kept if it was there.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod +x "$policy"
fi

echo "Installing for the device tests:$missing" >&2
export DEBIAN_FRONTEND=noninteractive
options="-qq -o Acquire::Retries=2 -o Acquire::http::Timeout=30 -o DPkg::Lock::Timeout=120"
# shellcheck disable=SC2086 - lists of words
apt-get update $options </dev/null >/dev/null || echo "the package lists stay as they are" >&2
# shellcheck disable=SC2086
if ! apt-get install -y $options --no-install-recommends $missing </dev/null >/dev/null; then
    echo "apt-get could not install:$missing" >&2
    exit 1
fi
