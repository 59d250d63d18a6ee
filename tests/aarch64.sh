#!/usr/bin/env bash
# The tests of the kernels on aarch64, emulated: what NEON code gives where no such machine is at hand.
# Needs rustup, and on Debian: apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user
# bash tests/aarch64.sh [ARGUMENTS OF cargo test …]
set -euo pipefail
cd "$(dirname "$0")/.."
target=aarch64-unknown-linux-gnu
for program in rustup aarch64-linux-gnu-gcc qemu-aarch64; do
    if ! command -v "$program" >/dev/null; then
        echo "no $program: see the first lines of $0" >&2
        exit 1
    fi
done
rustup target add "$target"
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64 -L /usr/aarch64-linux-gnu"
exec cargo test -p ft-kernels --target "$target" "$@"
