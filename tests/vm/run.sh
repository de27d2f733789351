#!/usr/bin/env bash
# Runs tests/vm/guest.sh as the only program of a virtual machine that has cgroup version 2 and
# nothing else: a Debian kernel under software emulation, this file system read-only below it.
#
# Needs root (the guest reads every file as this user). Kernel, QEMU and busybox come from Debian.
# VM_TIMEOUT: seconds until it is given up, 3000 by default.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
here=$root/tests/vm
work=${CARGO_TARGET_DIR:-$root/target}/vm

say() { echo "vm: $*"; }

[ "$(id -u)" -eq 0 ] || {
	say "needs root" >&2
	exit 2
}

install_parts() {
	local kernel
	if ! command -v qemu-system-x86_64 >/dev/null; then
		say "installing qemu-system-x86"
		apt-get -o DPkg::Lock::Timeout=300 -qq update
		DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -qq install -y \
			--no-install-recommends qemu-system-x86
	fi
	[ -f "$work/initrd.gz" ] && [ "$work/initrd.gz" -nt "$here/init" ] && return 0
	mkdir -p "$work/download"
	# The newest kernel of the distribution's 6.12 branch: the first long-lived one that can start a
	# memory peak anew and has all of Landlock that is used.
	kernel=$(apt-cache depends linux-image-6.12-amd64 | sed -n 's/^ *Depends: \(linux-image-[^ ]*\)$/\1/p' | head -n 1)
	[ -n "$kernel" ] || {
		say "no package linux-image-6.12-amd64 here" >&2
		exit 2
	}
	say "unpacking $kernel and busybox-static"
	(cd "$work/download" && rm -f ./*.deb && apt-get -qq download "$kernel" busybox-static 2>/dev/null)
	rm -rf "$work/parts" "$work/initrd"
	local deb
	for deb in "$work"/download/*.deb; do dpkg-deb -x "$deb" "$work/parts"; done
	mkdir -p "$work/initrd"/{bin,m,proc,sys,dev}
	cp "$work/parts/bin/busybox" "$work/initrd/bin/"
	cp "$here/init" "$work/initrd/init"
	local module
	for module in net/9p/9pnet net/9p/9pnet_virtio fs/netfs/netfs fs/9p/9p fs/overlayfs/overlay; do
		xz -dc "$work"/parts/lib/modules/*/kernel/"$module.ko.xz" >"$work/initrd/m/${module##*/}.ko"
	done
	cp "$work"/parts/boot/vmlinuz-* "$work/vmlinuz"
	(cd "$work/initrd" && find . | bin/busybox cpio -o -H newc 2>/dev/null) | gzip -1 >"$work/initrd.part"
	mv "$work/initrd.part" "$work/initrd.gz"
}

install_parts
job=$work/job
rm -rf "$job"
mkdir -p "$job"
program() { jq -r "select(.executable != null and .target.name == \"$1\") | .executable" <<<"$built" | head -n 1; }
built=$(cd "$root" && cargo test --locked --no-run --message-format=json 2>/dev/null)
printf '%s\n' "$root" "$(program pagebox)" "$(program it)" >"$job/arguments"

timeout "${VM_TIMEOUT:-3000}" qemu-system-x86_64 -accel tcg,thread=multi -cpu max -smp 2 -m 6144 \
	-nographic -no-reboot -nic none \
	-kernel "$work/vmlinuz" -initrd "$work/initrd.gz" \
	-append "console=ttyS0 quiet panic=-1 mitigations=off" \
	-fsdev "local,id=root,path=/,security_model=none,readonly=on,multidevs=remap" \
	-device virtio-9p-pci,fsdev=root,mount_tag=root \
	-fsdev "local,id=job,path=$job,security_model=none" \
	-device virtio-9p-pci,fsdev=job,mount_tag=job </dev/null || say "the machine did not end by itself"
status=$(cat "$job/status" 2>/dev/null || echo "none: it did not come that far")
say "status $status"
[ "$status" = 0 ]
