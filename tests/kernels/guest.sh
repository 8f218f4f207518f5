#!/bin/sh
# First process of a guest: guest.sh CHECKOUT RESULTS COMMAND...
# Makes of the host's file tree a system that tests can run on, runs the command, powers off.
set -u
checkout=$1 results=$2
shift 2
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8

cd "$checkout" || exit
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/shm /dev/pts
mount -t devpts devpts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t tmpfs -o mode=1777 tmp /tmp
mount -t tmpfs run /run
mount -t tracefs nodev /sys/kernel/tracing
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cgroup2 /sys/fs/cgroup
ln -sf /proc/self/fd /dev/fd
hostname guest
/bin/busybox ip link set lo up

# A checkout that a mount has covered since.
if [ ! -d "$checkout" ]; then
	mkdir -p "$checkout"
	mount --no-canonicalize --bind . "$checkout"
fi
cd "$checkout" || exit
"$@" >"$results/output.txt" 2>&1
echo "exit code $?" >>"$results/output.txt"
sync
echo o >/proc/sysrq-trigger
# Not a program: none can be read any more, and a first process that ends is a panic.
while :; do :; done
