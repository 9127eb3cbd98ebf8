#!/usr/bin/env bash
# Runs a static x86-64 Linux program on an emulated CPU with AVX-512 VNNI and VBMI (Bochs, Ice Lake), for machines without.
#
#   tools/emulate_avx512.sh PROGRAM [ARGUMENTS...]   prints its output, ends with its exit status
#   tools/emulate_avx512.sh --fetch-kernel           downloads a Debian kernel package and unpacks it under .cache/emulate/
#
# Variables named AEROGEL_* reach the program. EMULATE_SECONDS (900) limits the run, boot included: then the status is 124.
# EMULATE_KERNEL names a bzImage; without it, the one in .cache/emulate/ or /boot is used.
#
# Needs the Debian packages: bochs bochs-term bochsbios vgabios isolinux syslinux-common xorriso cpio, libc6-dev for a
# static link, and linux-image-cloud-amd64 (any x86-64 kernel with initramfs and a serial console). It installs nothing:
# when something is absent it says "SKIPPED: ..." and ends with status 77.
#
# It costs 20 to 60 seconds to boot and runs about a hundred times slower than the machine: choose small tests.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
cache="$root/.cache/emulate"
limit=${EMULATE_SECONDS:-900}

skip() { echo "SKIPPED: emulation of AVX-512: $*"; exit 77; }

fetch_kernel() {
  command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || skip "no apt-get to fetch a kernel package with"
  mkdir -p "$cache"; cd "$cache"
  [ -e vmlinuz ] && return
  local package
  package=$(apt-cache depends linux-image-cloud-amd64 2>/dev/null | sed -n 's/.*Depends: \(linux-image-[0-9][^ ]*\).*/\1/p' | head -1)
  [ -n "$package" ] || skip "this system has no package linux-image-cloud-amd64"
  apt-get download -q "$package" >/dev/null 2>&1 || skip "could not download $package"
  dpkg-deb --fsys-tarfile "$package"_*.deb | tar xf - --wildcards './boot/vmlinuz-*'
  mv boot/vmlinuz-* vmlinuz
  rm -rf boot "$package"_*.deb
}

if [ "${1:-}" = --fetch-kernel ]; then fetch_kernel; exit 0; fi
if [ $# -eq 0 ]; then sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit 2; fi
program=$1; shift
[ -x "$program" ] || { echo "emulate_avx512: no such program: $program" >&2; exit 2; }

kernel=${EMULATE_KERNEL:-}
for candidate in "$cache/vmlinuz" /boot/vmlinuz-*; do
  [ -z "$kernel" ] && [ -r "$candidate" ] && kernel=$candidate
done

missing=()
command -v bochs >/dev/null || missing+=(bochs bochsbios vgabios)
compgen -G '/usr/lib/*/bochs/plugins/libbx_term_gui.so' >/dev/null || missing+=(bochs-term)
[ -e /usr/lib/ISOLINUX/isolinux.bin ] || missing+=(isolinux)
[ -e /usr/lib/syslinux/modules/bios/ldlinux.c32 ] || missing+=(syslinux-common)
command -v xorriso >/dev/null || missing+=(xorriso)
command -v cpio >/dev/null || missing+=(cpio)
command -v script >/dev/null || missing+=(bsdutils)
[ -n "$kernel" ] || missing+=("linux-image-cloud-amd64 (or: $0 --fetch-kernel)")
[ ${#missing[@]} -eq 0 ] || skip "these packages are needed: ${missing[*]}"

work=$(mktemp -d)
machine=
finish() {
  # By number, these and nothing else: the session that setsid made, and the emulator, which script puts into one of its own.
  if [ -n "$machine" ]; then
    local emulator
    emulator=$(cat "/proc/$machine/task/$machine/children" 2>/dev/null) || true
    # script stops itself when what runs in it stops, and a stopped process does not hear TERM: so CONT, then KILL.
    # shellcheck disable=SC2086
    {
      for signal in TERM CONT KILL; do
        kill -"$signal" -- "-$machine" $emulator || true
        sleep 0.3
      done
      wait "$machine" || true
    } 2>/dev/null
  fi
  rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT TERM

mkdir -p "$work/root" "$work/iso/isolinux"
"${CXX:-g++}" -std=c++17 -O1 -static -o "$work/root/init" "$root/tools/emulate/init.cpp" 2>"$work/init.log" ||
  skip "the compiler cannot link a static program: $(tail -1 "$work/init.log")"
cp "$program" "$work/root/program"
: >"$work/root/args"
for argument in "$@"; do printf '%s\n' "$argument" >>"$work/root/args"; done
env | grep '^AEROGEL_' >"$work/root/env" || true
(cd "$work/root" && find . | cpio -o -H newc --quiet) >"$work/iso/initrd"

# Why each of these, on Bochs 2.7 and Linux 6.1:
#   pku,ospke         Bochs announces PKRU state of size 0, and the kernel then switches AVX off
#   xsavec,xsaves     Bochs gives the size of the standard format for the compacted one, with the same end
#   fsrm              Bochs leaves fast strings off, so the kernel drops ERMS but keeps FSRM, and its memmove runs wild
#   3dnowprefetch     Bochs lets prefetchw fault on a null pointer, which the kernel's page fault handler does not expect
# The rest only shortens the boot.
options="console=ttyS0,115200 loglevel=1 panic=-1 noxsaves clearcpuid=pku,ospke,xsavec,xsaves,fsrm,3dnowprefetch"
options+=" mitigations=off nokaslr acpi=off tsc=reliable cryptomgr.notests ipv6.disable=1 lsm=none audit=0"
cp "$kernel" "$work/iso/vmlinuz"
cp /usr/lib/ISOLINUX/isolinux.bin /usr/lib/syslinux/modules/bios/ldlinux.c32 "$work/iso/isolinux/"
printf 'default linux\nprompt 0\nlabel linux\n  kernel /vmlinuz\n  initrd /initrd\n  append %s\n' "$options" \
  >"$work/iso/isolinux/isolinux.cfg"
xorriso -as mkisofs -quiet -o "$work/boot.iso" -b isolinux/isolinux.bin -c isolinux/boot.cat -no-emul-boot \
  -boot-load-size 4 -boot-info-table "$work/iso" >"$work/xorriso.log" 2>&1 || { cat "$work/xorriso.log" >&2; exit 1; }

# ips sets how many instructions make one second of the machine's clock. Few, so that waiting for devices costs little.
cat >"$work/bochsrc" <<END
display_library: term
romimage: file=/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest
cpu: model=corei7_icelake_u, count=1, ips=15000000
memory: guest=${EMULATE_MEGABYTES:-1024}, host=${EMULATE_MEGABYTES:-1024}
ata0-master: type=cdrom, path=boot.iso, status=inserted
boot: cdrom
com1: enabled=1, mode=file, dev=serial.txt
clock: sync=none
log: bochs.log
panic: action=fatal
error: action=ignore
info: action=ignore
debug: action=ignore
sound: waveoutdrv=dummy, waveindrv=dummy, midioutdrv=dummy
END
# Debian's Bochs has its debugger built in, which waits for a command before it starts.
printf 'c\nq\n' >"$work/start"
: >"$work/serial.txt"

# The terminal display needs a terminal: script gives it one.
cd "$work"
TERM=xterm setsid script -qefc "bochs -q -f bochsrc -rc start" /dev/null >screen.txt 2>&1 </dev/null &
machine=$!

# The program's part of the console so far, up to the last whole line; the last mark is the exit status.
output() { tr -d '\r' <serial.txt | sed -n '/^\[\[begin\]\]$/,$p' | sed -n '2,$p'; }
printed=0 status=
SECONDS=0
while [ -z "$status" ]; do
  sleep 1
  gone=; kill -0 "$machine" 2>/dev/null || gone=1
  output >lines.txt
  status=$(sed -n 's/^\[\[exit \([0-9]*\)\]\]$/\1/p' lines.txt | tail -1)
  now=$(wc -l <lines.txt)
  if [ "$now" -gt "$printed" ]; then
    sed -n "$((printed + 1)),${now}p" lines.txt | sed '/^\[\[exit [0-9]*\]\]$/d'
    printed=$now
  fi
  [ -z "$status" ] || break
  if grep -q 'Kernel panic' serial.txt || [ -n "$gone" ]; then
    echo "emulate_avx512: the emulated machine stopped:" >&2
    tail -n 20 serial.txt >&2
    exit 1
  fi
  if [ "$SECONDS" -ge "$limit" ]; then
    echo "emulate_avx512: not done after $limit seconds (EMULATE_SECONDS)" >&2
    exit 124
  fi
done
exit "$status"
