"""A bdev that inherits its export's UUID (`uuid: inherit`) is found by it on every machine."""

from __future__ import annotations

import pytest

from harness.lab import Lab
from harness.rpc import RpcError

pytestmark = pytest.mark.needs_dst


def test_the_uuid_passes_through_unless_another_bdev_has_it(lab: Lab) -> None:
    target, remote = lab.aio_target(64)
    (export,) = target.rpc.call("dst_get_exports")
    place = {"traddr": remote.address, "trsvcid": str(remote.port), "export": remote.export, "uuid": "inherit"}
    client = lab.client()
    assert client.rpc.call("bdev_dst_create", name="remote0", **place) == "remote0"
    bdev = client.bdev("remote0")
    assert bdev is not None and bdev["uuid"] == export["uuid"]

    # The second bdev of the client, and the target's own of its own export, come second.
    for process in (client, target):
        with pytest.raises(RpcError, match=f"uuid: bdev `remote1` can't inherit .* has {export['uuid']};"):
            process.rpc.call("bdev_dst_create", name="remote1", **place)
        assert process.bdev("remote1") is None

    config = client.rpc.call("framework_get_config", name="bdev")
    (saved,) = [entry["params"] for entry in config if entry["method"] == "bdev_dst_create"]
    assert saved["uuid"] == "inherit"
    client.rpc.call("bdev_dst_delete", name="remote0")
    client.rpc.call("bdev_dst_create", **{**saved, "wait": True, "first_attempt": True})
    again = client.bdev("remote0")
    assert again is not None and again["uuid"] == export["uuid"]
