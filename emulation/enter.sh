#!/bin/sh
# enter.sh ROOT CPUINFO SHARED COMMAND...: run COMMAND inside the aarch64 system in ROOT; without a
# path in QEMU, inside a system of this machine's own processor.
#
# To be called by `unshare --mount --pid --fork --kill-child --propagation private`: the mounts below
# are seen by this process and its children alone, and are gone with the last of them, whatever ends
# it. Nothing has to be cleaned up, so nothing can be left behind.
set -eu
root=$1 cpuinfo=$2 shared=$3
shift 3

# The kernel hands every aarch64 program to QEMU. F opens QEMU now, so that it is found after chroot.
# A registration by the system is taken as it is; our own ends with this mount (before Linux 6.7:
# with the next boot).
if [ -n "$QEMU" ]; then
    binfmt=/proc/sys/fs/binfmt_misc
    [ -e $binfmt/status ] || mount -t binfmt_misc binfmt_misc $binfmt
    if ! [ -e $binfmt/qemu-aarch64 ]; then
        printf '%s' ":qemu-aarch64:M::\\x7fELF\\x02\\x01\\x01\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x02\\x00\\xb7\\x00:\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\x00\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xfe\\xff\\xff\\xff:$QEMU:F" \
            >$binfmt/register 2>/dev/null || [ -e $binfmt/qemu-aarch64 ]
    fi
fi

mount -t proc proc "$root/proc"
mount --bind "$cpuinfo" "$root/proc/cpuinfo"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for device in null zero random urandom; do
    : >"$root/dev/$device"
    mount --bind /dev/$device "$root/dev/$device"
done
mkdir -m 1777 "$root/dev/shm"
mount --bind "$shared" "$root/shared"
# A control group, into which a command may put itself by writing to /run/group/cgroup.procs.
if [ -n "${GROUP:-}" ]; then
    mkdir -p "$root/run/group"
    mount --bind "$GROUP" "$root/run/group"
fi
[ ! -e /etc/resolv.conf ] || cat /etc/resolv.conf >"$root/etc/resolv.conf"
[ ! -e /etc/hosts ] || cat /etc/hosts >"$root/etc/hosts"

# Not exec: a signal can't end the first process of a process namespace, a crash would hang there.
status=0
chroot "$root" "$@" || status=$?
exit $status
