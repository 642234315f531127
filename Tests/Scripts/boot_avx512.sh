#!/bin/sh
# Runs the compiled AVX-512 kernels on Bochs' model of a Tiger Lake processor: a Linux kernel is booted whose only
# program is the comparison with the portable kernels. Unlike emulate_avx512.sh this executes the machine code that the
# compiler made of kernels_avx512.c, and the run-time detection as processor and operating system answer it. It takes
# some minutes, and says nothing about speed.
#
# Usage: boot_avx512.sh VMLINUZ    a kernel for x86-64 with a serial console and an initial RAM disk, such as the one in
#                                  Debian's linux-image-cloud-amd64
# Needs: clang, and Debian's bochs, bochsbios, vgabios, isolinux, syslinux-common, xorriso, cpio.
set -eu
kernel=$(realpath "$1")
cd "$(dirname "$0")/../.."
clang=${CLANG:-clang}
directory=$(mktemp -d)
emulator=
trap 'if [ -n "$emulator" ]; then kill "$emulator" 2>/dev/null || true; fi; rm -rf "$directory"' EXIT
mkdir -p "$directory/root" "$directory/disc/isolinux"
"$clang" -O2 -std=gnu11 -Wall -Wextra -Werror -static -DSUBJECT=ek_avx512 -DDETECTED \
  -I Sources/CTensorKernels/include Sources/CTensorKernels/*.c Tests/Scripts/compare_kernels.c \
  -o "$directory/root/init" -lm -lpthread
(cd "$directory/root" && echo init | cpio --quiet -o -H newc) > "$directory/disc/initrd"
cp "$kernel" "$directory/disc/vmlinuz"
cp /usr/lib/ISOLINUX/isolinux.bin /usr/lib/syslinux/modules/bios/ldlinux.c32 "$directory/disc/isolinux/"
cat > "$directory/disc/isolinux/isolinux.cfg" <<'C'
default compare
prompt 0
label compare
  kernel /vmlinuz
  append initrd=/initrd console=ttyS0 panic=-1 mitigations=off nokaslr quiet
C
xorriso -as mkisofs -quiet -o "$directory/disc.iso" -b isolinux/isolinux.bin -no-emul-boot -boot-load-size 4 \
  -boot-info-table "$directory/disc"
cat > "$directory/bochsrc" <<C
cpu: model=tigerlake, count=1, ips=100000000
memory: guest=512, host=512
romimage: file=/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest
ata0-master: type=cdrom, path=$directory/disc.iso, status=inserted
boot: cdrom
com1: enabled=1, mode=file, dev=$directory/serial
display_library: ${BOCHS_DISPLAY:-rfb, options="timeout=0"}
sound: driver=dummy, waveoutdrv=dummy, waveindrv=dummy, midioutdrv=dummy
speaker: enabled=0
plugin_ctrl: speaker=0
log: $directory/log
panic: action=fatal
error: action=ignore
C
: > "$directory/serial"
echo c | bochs -q -f "$directory/bochsrc" > "$directory/screen" 2>&1 &
emulator=$!
seconds=0
until grep -Eq '^(passed|FAILED)|Kernel panic' "$directory/serial"; do
  sleep 2
  seconds=$((seconds + 2))
  if ! kill -0 "$emulator" 2>/dev/null || [ "$seconds" -ge "${LIMIT:-1800}" ]; then break; fi
done
cat "$directory/serial"
if ! grep -q '^passed' "$directory/serial"; then
  tail -n 20 "$directory/log" "$directory/screen"
  exit 1
fi
