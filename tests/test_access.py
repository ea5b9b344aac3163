"""A host's entry that changes while the host is attached."""

from __future__ import annotations

import pytest

from harness.keys import KeyFile
from harness.lab import Lab
from harness.protocol import Session

pytestmark = pytest.mark.needs_dst


def test_own_entry_with_a_key_ends_what_came_in_without(lab: Lab) -> None:
    """Who came in by `*` has not shown that he knows the key of the entry that is the host's from now on."""
    target, remote = lab.malloc_target(16)
    session, other = Session(remote, "anybody"), Session(remote, "other")
    file = KeyFile(lab.folder, "key").path
    target.rpc.call("dst_export_add_host", export=remote.export, host="anybody", access="rw", psk_file=file)
    session.control.assert_closed()
    other.control.keep_alive()
    # Without a key, and with the same rights, nothing changes.
    target.rpc.call("dst_export_add_host", export=remote.export, host="other", access="rw")
    other.control.keep_alive()
