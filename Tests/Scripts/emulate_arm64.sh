#!/bin/sh
# Compares the NEON kernels with the portable ones on a machine without an Arm processor: the sources are compiled by
# clang for arm64 and run by QEMU's user-mode emulation, whose processor offers the dot-product instructions. This
# checks the numbers, run-time detection included, but says nothing about speed.
#
# Needs: clang and lld with the AArch64 target (Swift's toolchain has both), and Debian's qemu-user,
# gcc-aarch64-linux-gnu, libc6-dev-arm64-cross.
set -eu
cd "$(dirname "$0")/../.."
clang=${CLANG:-clang}
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
"$clang" --target=aarch64-linux-gnu -fuse-ld=lld -isystem /usr/aarch64-linux-gnu/include \
  -O2 -std=gnu11 -Wall -Wextra -Werror -static -DSUBJECT=ek_neon -DDETECTED \
  -I Sources/CTensorKernels/include Sources/CTensorKernels/*.c Tests/Scripts/compare_kernels.c \
  -o "$directory/compare" -lm -lpthread
qemu-aarch64 -cpu max "$directory/compare"
# A processor without the extension (Cortex-A53) must get the portable kernels.
cat > "$directory/detect.c" <<'C'
#include <stdio.h>
#include "CTensorKernels.h"
int main(void) { puts(ek_kernels_best()->name); }
C
"$clang" --target=aarch64-linux-gnu -fuse-ld=lld -isystem /usr/aarch64-linux-gnu/include -O2 -std=gnu11 -static \
  -I Sources/CTensorKernels/include Sources/CTensorKernels/*.c "$directory/detect.c" -o "$directory/detect" \
  -lm -lpthread
test "$(qemu-aarch64 -cpu cortex-a53 "$directory/detect")" = portable
echo "Cortex-A53: portable"
