"""Key files: errors say what is wrong, and keys are replaced while I/O runs."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any, Callable

import pytest

from harness.checker import start_checker
from harness.keys import HEADER, HOST, KeyedService
from harness.lab import Lab
from harness.proxy import Proxy
from harness.rpc import RpcError
from harness.spdk import Application
from harness.waiting import wait_until

pytestmark = pytest.mark.needs_dst

KEY = bytes(range(32)).hex()
NOBODY = 65534


def text(*lines: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        path.touch(0o600)
        path.write_text("\n".join(lines))

    return make


def mode(bits: int) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        text(HEADER, KEY)(path)
        path.chmod(bits)

    return make


def somebody_elses(path: Path) -> None:
    text(HEADER, KEY)(path)
    os.chown(path, NOBODY, NOBODY)


# The file to create, and the error after its name.
BAD: dict[str, tuple[Callable[[Path], Any], str]] = {
    "missing": (lambda path: None, "No such file"),
    "directory": (lambda path: path.mkdir(0o700), "is a directory"),
    "fifo": (lambda path: os.mkfifo(path, 0o600), "is a FIFO"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "is a device"),
    "group-reads": (mode(0o640), "has mode 0640"),
    "others-read": (mode(0o604), "has mode 0604"),
    "others-write": (mode(0o602), "has mode 0602"),
    "somebody-elses": (somebody_elses, "belongs to user 65534"),
    "empty": (text(), "its first line is not DST-PSK-1"),
    "wrong-header": (text("DST-PSK-2", KEY), "its first line is not DST-PSK-1"),
    "no-header": (text(KEY), "its first line is not DST-PSK-1"),
    "no-key": (text(HEADER, "# nothing", ""), "there is no key in it"),
    "short": (text(HEADER, KEY[:-2]), "line 2 is neither 64 hexadecimal digits nor 44 characters of base64"),
    "long": (text(HEADER, "", KEY + "00"), "line 3 is neither"),
    "not-hex": (text(HEADER, "g" + KEY[1:]), "line 2 is neither"),
    "short-base64": (text(HEADER, base64.b64encode(bytes(31)).decode()), "line 2 is neither"),
    "zeroes": (text(HEADER, "00" * 32), "the key in line 2 is all zeroes"),
    "five-keys": (text(HEADER, *[KEY] * 5), "there are more than 4 keys in it"),
    "too-long": (text(HEADER, KEY, "#" * 5000), "at most 4096 are taken"),
}


@pytest.mark.parametrize("side", ["client", "target"])
def test_bad_files(module_lab: Lab, side: str) -> None:
    """The error names the file and the problem, shows nothing of its content, and nothing is
    half-created."""
    application = module_lab.spdk_tgt(side)
    call = application.rpc.call
    call("bdev_malloc_create", name="Malloc0", num_blocks=2048, block_size=512)
    call("dst_create_export", name="volume", bdev_name="Malloc0")
    place = {"name": "x", "traddr": "127.0.0.1", "trsvcid": "9", "export": "x"}
    entry = {"export": "volume", "host": HOST, "access": "rw"}
    method, params = ("bdev_dst_create", place) if side == "client" else ("dst_export_add_host", entry)
    before = call("dst_get_exports")
    for name, (make, problem) in BAD.items():
        if name == "somebody-elses" and os.geteuid() != 0:
            continue
        path = module_lab.folder / f"{side}-{name}"
        make(path)
        if (side, name) == ("target", "missing"):
            # It may come later: see test_starts.py.
            continue
        with pytest.raises(RpcError) as error:
            call(method, **params, psk_file=str(path))
        told = error.value.message
        assert told.startswith("psk_file: ") and str(path) in told and problem in told, told
        assert "0102030405" not in told
        assert call("bdev_dst_get_info") == [] and call("dst_get_exports") == before
    for path in ("relative", "", "/with\nnewline", "/" + "x" * 5000):
        with pytest.raises(RpcError, match="psk_file"):
            call(method, **params, psk_file=path)
    assert "0102030405" not in application.text()


def test_good_files(lab: Lab) -> None:
    """Hexadecimal in upper and lower case, base64, comments, empty lines, foreign line ends; the
    client uses the first key."""
    service = KeyedService(lab)
    client = lab.client()
    other, key = os.urandom(32), service.at_target.key
    path = Path(service.at_client.path)
    for lines in (
        [HEADER, key.hex().upper()],
        [HEADER, "", "# old", base64.b64encode(key).decode(), "  # the next one", other.hex()],
        [HEADER + "\r", key.hex() + "\r", ""],
    ):
        path.write_text("\n".join(lines))
        service.attach(client)
        assert client.rpc.call("bdev_dst_delete", name="remote0") is True
    path.write_text("\n".join([HEADER, other.hex(), key.hex()]))
    with pytest.raises(RpcError, match="not allowed"):
        service.attach(client)
    # A target accepts any of its keys.
    service.at_target.write(key, os.urandom(32), other)
    service.attach(client)


def connected(client: Application) -> bool:
    return client.rpc.call("bdev_dst_get_info", name="remote0")[0]["state"] == "connected"


@pytest.mark.watchdog(90)
def test_keys_are_replaced_while_io_runs(lab: Lab) -> None:
    service = KeyedService(lab)
    proxy = Proxy(service.remote, secured=True)
    lab.on_end(proxy.end)
    at_target, at_client = service.at_target, service.at_client
    checker = start_checker(lab)
    service.attach(checker, remote=proxy.remote)
    checker.begin_and_flow()

    def reconnect() -> None:
        """Replaces all connections by new ones, made with the current content of the files."""
        links = proxy.whole_links()
        proxy.cut()
        wait_until(lambda: set(proxy.whole_links()).isdisjoint(links) and connected(checker), "the client to come back")
        checker.wait_flow()

    for _ in range(2):
        old, new = at_target.key, os.urandom(32)
        for target_has, client_has in (([old, new], [old]), ([old, new], [new, old]), ([new], [new])):
            at_target.write(*target_has)
            at_client.write(*client_has)
            reconnect()
        # The old key no longer works. I/O waits meanwhile.
        before = len(service.application.text())
        at_client.write(old)
        proxy.cut()
        refused = "it does not have the key of its entry"
        wait_until(lambda: refused in service.application.text()[before:], "the old key to be refused")
        assert not connected(checker)
        at_client.write(new)
        wait_until(lambda: connected(checker), "the client to come back")
    checker.end().assert_clean()


def test_file_that_is_gone_when_the_client_comes_back(lab: Lab) -> None:
    service = KeyedService(lab)
    proxy = Proxy(service.remote, secured=True)
    lab.on_end(proxy.end)
    checker = start_checker(lab)
    service.attach(checker, remote=proxy.remote)
    checker.begin_and_flow()
    for file, process in ((service.at_client, checker), (service.at_target, service.application)):
        os.rename(file.path, file.path + ".away")
        before = len(process.text())
        proxy.cut()
        wait_until(lambda: f"{file.path} can't be opened" in process.text()[before:], "a line about the file")
        os.rename(file.path + ".away", file.path)
        wait_until(lambda: connected(checker), "the client to come back")
    # The client's user is told nothing about the target's file.
    assert service.at_target.path not in checker.text()
    checker.end().assert_clean()
