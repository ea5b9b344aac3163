"""Both sides accept a file of dstctl keygen, by its old name."""

from __future__ import annotations

import subprocess

import pytest

from harness.environment import environment
from harness.lab import Lab
from harness.ports import free_port
from harness.rpc import RpcError

pytestmark = pytest.mark.needs_dst


def test_both_sides_take_its_file(lab: Lab) -> None:
    target, client = lab.target(), lab.client()
    path = lab.folder / "key"
    made = subprocess.run([environment().binary("dst-keygen"), path], capture_output=True, timeout=10, check=True)
    assert made.stdout == made.stderr == b""
    call, port = target.rpc.call, str(free_port())
    call("bdev_malloc_create", name="Malloc0", num_blocks=2048, block_size=512)
    call("dst_create_export", name="volume", bdev_name="Malloc0", require_cipher=True)
    call("dst_export_add_host", export="volume", host="me", access="rw", psk_file=str(path))
    call("dst_create_listener", traddr="127.0.0.1", trsvcid=port)
    peer = {"traddr": "127.0.0.1", "trsvcid": port, "export": "volume", "host": "me"}
    # Another such file has another key.
    other = lab.folder / "other"
    subprocess.run([environment().binary("dst-keygen"), other], timeout=10, check=True)
    with pytest.raises(RpcError, match="not allowed"):
        client.rpc.call("bdev_dst_create", name="remote0", **peer, psk_file=str(other))
    assert client.rpc.call("bdev_dst_create", name="remote0", **peer, psk_file=str(path)) == "remote0"
    (info,) = client.rpc.call("bdev_dst_get_info", name="remote0")
    assert info["negotiated"]["cipher"] == "aes-256-gcm"
