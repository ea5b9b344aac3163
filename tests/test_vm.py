"""A virtual machine whose disk is a remote bdev through SPDK's vhost."""

from __future__ import annotations

import os

import pytest

from harness.guest import build_initramfs, require_kernel
from harness.lab import Lab
from harness.requirements import require_tool
from harness.transport import attach

MIB = 64

# After unmounting, everything is read back from the disk and not from the cache. -f because e2fsck
# would skip a file system that was unmounted cleanly.
SCRIPT = f"""
set -e
trap 'echo guest: FAILED' EXIT
[ "$(cat /sys/block/vda/size)" = {MIB * 2048} ]
echo guest: disk seen
/tools/mke2fs -F -q -t ext4 /dev/vda
mkdir /mnt /data
mount -t ext4 /dev/vda /mnt
for n in 1 2 3 4 5 6 7 8; do dd if=/dev/urandom of=/data/$n bs=64k count=32 2>/dev/null; done
(cd /data; sha256sum *) > /sums
cp /data/* /mnt/
umount /mnt
/tools/e2fsck -f -n /dev/vda
echo 3 > /proc/sys/vm/drop_caches
mount -t ext4 -o ro /dev/vda /mnt
(cd /mnt; sha256sum -c /sums)
umount /mnt
dmesg | grep -i "i/o error" && false
trap - EXIT
echo guest: ALL WELL
"""


@pytest.mark.watchdog(150)
def test_virtual_machine(lab: Lab) -> None:
    qemu = require_tool("qemu-system-x86_64")
    kernel = require_kernel()
    initramfs = build_initramfs(lab.folder, kernel, SCRIPT)

    _, remote = lab.malloc_target(MIB)
    # -S: where vhost's sockets go.
    client = lab.client(arguments=["-S", os.fspath(lab.folder)])
    bdev = attach(lab.transport, client, remote)
    client.rpc.call("vhost_create_blk_controller", ctrlr="vhost.0", dev_name=bdev)

    guest = lab.process(
        "guest",
        [
            qemu,
            *["-accel", "tcg", "-cpu", "max", "-smp", "1", "-m", "256"],
            *["-object", "memory-backend-memfd,id=memory,size=256M,share=on", "-numa", "node,memdev=memory"],
            *["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio"],
            *["-chardev", f"socket,id=vhost,path={lab.folder}/vhost.0"],
            *["-device", "vhost-user-blk-pci,chardev=vhost,num-queues=1"],
            *["-kernel", kernel.image, "-initrd", initramfs],
            *["-append", "console=ttyS0 panic=-1 quiet"],
        ],
    )
    # An emulated CPU on a core that SPDK polls is slow; the guest needs some seconds when it has one to itself.
    assert guest.wait(120) == 0, guest.tail()
    assert "guest: ALL WELL" in guest.text(), guest.tail()
    client.assert_running()
    client.rpc.call("vhost_delete_controller", ctrlr="vhost.0")
    lab.transport.detach(client, "remote0")
