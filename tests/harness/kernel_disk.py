"""A bdev of an SPDK application as a block device of this machine's kernel.

The path is SPDK's iSCSI target, qemu-storage-daemon as its initiator, a file that the daemon
exports through FUSE, and a loop device on that file. None of it needs nbd, ublk or NVMe-oF in the
kernel.
"""

from __future__ import annotations

from harness.commands import attempt, run
from harness.lab import Lab
from harness.ports import free_port
from harness.process import Process
from harness.requirements import require_device, require_filesystem, require_root, require_tool
from harness.spdk import Application
from harness.waiting import wait_until

_IQN = "iqn.2016-06.io.spdk"


def require_kernel_disk() -> None:
    require_root("attaching a loop device")
    for tool in ("qemu-storage-daemon", "losetup"):
        require_tool(tool)
    require_filesystem("fuse")
    require_device("/dev/fuse")
    require_device("/dev/loop-control")


class KernelDisk:
    """The path from a bdev to a block device; `detach` removes it."""

    def __init__(self, lab: Lab, application: Application, bdev: str) -> None:
        self._application = application
        self._target = bdev.lower()
        port = free_port()
        call = application.rpc.call
        call("iscsi_create_portal_group", tag=1, portals=[{"host": "127.0.0.1", "port": str(port)}])
        call("iscsi_create_initiator_group", tag=1, initiators=["ANY"], netmasks=["127.0.0.1/32"])
        call(
            "iscsi_create_target_node",
            name=self._target,
            alias_name=bdev,
            luns=[{"bdev_name": bdev, "lun_id": 0}],
            pg_ig_maps=[{"pg_tag": 1, "ig_tag": 1}],
            queue_depth=64,
            disable_chap=True,
        )
        file = lab.folder / f"{bdev}.disk"
        file.touch()
        self._daemon: Process = lab.process(
            "qemu-storage-daemon",
            [
                require_tool("qemu-storage-daemon"),
                "--blockdev",
                f"driver=iscsi,node-name=disk,transport=tcp,portal=127.0.0.1:{port},target={_IQN}:{self._target},lun=0",
                "--export",
                f"type=fuse,id=export,node-name=disk,mountpoint={file},writable=on",
            ],
        )
        # A mount is left over if the daemon was killed; without one, this does nothing.
        lab.on_end(attempt, ["umount", "-l", file])
        expected = application.bdev_bytes(bdev)

        def exported() -> bool:
            self._daemon.assert_running()
            return file.stat().st_size == expected


        wait_until(exported, "qemu-storage-daemon to export the disk")
        self.device = run([require_tool("losetup"), "--find", "--show", file]).strip()
        self._attached = True
        lab.on_end(self._detach_loop)

    def _detach_loop(self) -> None:
        if self._attached:
            self._attached = False
            attempt([require_tool("losetup"), "--detach", self.device])

    def detach(self) -> None:
        assert self._attached
        self._attached = False
        run([require_tool("losetup"), "--detach", self.device])
        # Ends only after all cached data was written and the file was unmounted.
        assert self._daemon.stop(30) == 0
        call = self._application.rpc.call
        call("iscsi_delete_target_node", name=f"{_IQN}:{self._target}")
        call("iscsi_delete_initiator_group", tag=1)
        call("iscsi_delete_portal_group", tag=1)
