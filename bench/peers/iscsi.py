"""SPDK's iSCSI target with SPDK's initiator (libiscsi)."""

from __future__ import annotations

import os

from cases import Case
from harness.ports import free_port
from harness.spdk import Application
from harness.transport import Remote
from peers import Spdk, SpdkPeer
from stage import BDEV, Setup

IQN = "iqn.2016-06.io.spdk"
# The target's default queue depth (DEFAULT_MAX_QUEUE_DEPTH in its iscsi.h).
QUEUE_DEPTH = 64


class IscsiPeer(SpdkPeer):
    name = family = service = "iscsi"
    setup = Setup(SpdkPeer.setup.folder, iscsi=True)
    # 400 MiB more than others, for the pools of its default number of connections.
    mib = 1152
    # In 20.07, another application that starts wipes out the target's connections, unless the
    # target has its own shared-memory id.
    target_arguments = {"shm_id": os.getpid()}

    def quick(self, case: Case) -> bool:
        return False

    def missing(self, spdk: Spdk) -> str | None:
        return None if "bdev_iscsi_create" in spdk.methods else "the SPDK in use was built without its iSCSI initiator"

    def serve(self, target: Application, bdev: str) -> Remote:
        remote = Remote("127.0.0.1", free_port(), bdev.lower())
        call = target.rpc.call
        call("iscsi_create_portal_group", tag=1, portals=[{"host": remote.address, "port": str(remote.port)}])
        call("iscsi_create_initiator_group", tag=1, initiators=["ANY"], netmasks=["127.0.0.1/32"])
        call(
            "iscsi_create_target_node",
            name=remote.export,
            alias_name=bdev,
            luns=[{"bdev_name": bdev, "lun_id": 0}],
            pg_ig_maps=[{"pg_tag": 1, "ig_tag": 1}],
            queue_depth=QUEUE_DEPTH,
            disable_chap=True,
        )
        return remote

    def attach(self, client: Application, remote: Remote) -> None:
        url = f"iscsi://{remote.address}:{remote.port}/{IQN}:{remote.export}/0"
        client.rpc.call("bdev_iscsi_create", name=BDEV, initiator_iqn=f"{IQN}:bench", url=url)

    def detach(self, client: Application) -> None:
        client.rpc.call("bdev_iscsi_delete", name=BDEV)
