"""Runs a sequence of harness/rpc_plan.py over real processes, and checks what always holds."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable

from harness.keys import KeyFile
from harness.lab import Lab
from harness.ports import free_port
from harness.rpc import RpcError
from harness.rpc_plan import (
    CLIENT,
    CLIENT_TIMES,
    FILES,
    PORTS,
    PROCESSES,
    TARGET,
    TARGET_TIMES,
    Call,
    Collect,
    Freeze,
    Kill,
    Pause,
    Plan,
    Reload,
    Save,
    Send,
    SendGarbage,
    Start,
    Step,
    Stop,
)
from harness.spdk import CLIENT_CORES, TARGET_CORES, Application
from harness.waiting import wait_until

# How long an answer may take on a loaded machine. The longest that DST itself takes is
# dst_create_export's wait for a bdev in use, of 5 s.
ANSWER_S = 60.0
# How long a stop may take there. The client's patience is 2 s.
STOP_S = 30.0
# How long the kernel may take to free the memory of a process that has exited: 20 s were seen with
# ten busy threads on two CPUs, because the last thread of the process hardly ran.
FREE_S = 120.0

BINARIES = {TARGET: "spdk_tgt", CLIENT: "dst_check"}
CORES = {TARGET: TARGET_CORES, CLIENT: CLIENT_CORES}

FILE_MIB = 4

# How each kind of bdev is deleted, by its product name.
DELETIONS = {
    "Malloc disk": "bdev_malloc_delete",
    "AIO disk": "bdev_aio_delete",
    "Null disk": "bdev_null_delete",
    "passthru": "bdev_passthru_delete",
}

# What dst_get_stats shows of what there is at the moment.
NUMBERS = ("connections", "handshakes", "waiting", "closing", "sessions", "in_flight")

# DST's answer if a method forgets to answer.
DROPPED = "the request was dropped without an answer"


def saved(application: Application) -> dict[str, Any]:
    """Returns what scripts/rpc.py save_config writes."""
    call = application.rpc.call
    names = [entry["subsystem"] for entry in call("framework_get_subsystems")]
    return {"subsystems": [{"subsystem": name, "config": call("framework_get_config", name=name)} for name in names]}


def without_displaced(config: dict[str, Any]) -> dict[str, Any]:
    """Returns a saved configuration without passthru bdevs on exported bdevs. Such a bdev may have
    been there before its base was exported, so that the export waits. After a start, the export
    comes first and has the base."""
    subsystems = [dict(subsystem) for subsystem in config["subsystems"]]
    calls = [call for subsystem in subsystems for call in subsystem["config"] or []]
    taken = {call["params"]["bdev_name"] for call in calls if call["method"] == "dst_create_export"}
    passthrus = [call["params"] for call in calls if call["method"] == "bdev_passthru_create"]
    for _ in passthrus:
        taken |= {params["name"] for params in passthrus if params["base_bdev_name"] in taken}
    for subsystem in subsystems:
        subsystem["config"] = [
            call
            for call in subsystem["config"] or []
            if call["method"] != "bdev_passthru_create" or call["params"]["base_bdev_name"] not in taken
        ]
    return {"subsystems": subsystems}


def has_exited(application: Application) -> bool:
    """Returns whether the process has exited, even if the kernel is still freeing its memory."""
    if application.exit_code is not None:
        return True
    # The state follows the name, which is in parentheses.
    state = Path(f"/proc/{application.pid}/stat").read_text().rpartition(")")[2].split()[0]
    return state == "Z"


def wait_freed(application: Application) -> int:
    """Waits until the kernel has freed the memory of a process that has exited or was killed, and
    returns the exit code. The process's last thread does this; if it is DPDK's control thread, it may
    run on no other CPU than that of the other process's reactor, which is always busy: two minutes
    without an end were seen. So it may run on all of them."""
    for thread in Path(f"/proc/{application.pid}/task").glob("*"):
        try:
            os.sched_setaffinity(int(thread.name), range(os.cpu_count() or 1))
        except ProcessLookupError:
            # It has ended meanwhile.
            pass
    return application.wait(FREE_S)


@dataclass
class Conversation:
    """A connection with the calls that were sent on it."""

    sock: socket.socket
    process: str
    waiting: dict[int, Call]
    deadline: float
    received: str = ""

    def read(self) -> list[tuple[Call, dict[str, Any]]] | None:
        """Returns the answers that are there, or None at the end of the connection."""
        try:
            data = self.sock.recv(1 << 20)
        except ConnectionResetError:
            return None
        if not data:
            return None
        # Answers are ASCII, and follow each other without a delimiter.
        self.received += data.decode("ascii")
        answers = []
        while text := self.received.lstrip():
            try:
                answer, end = json.JSONDecoder().raw_decode(text)
            except ValueError:
                break
            self.received = text[end:]
            call = self.waiting.pop(answer["id"], None)
            assert call is not None, f"{self.process} answered what was not asked: {answer}"
            answers.append((call, answer))
        return answers


@dataclass
class Runner:
    """One target and one client, and the calls in flight."""

    lab: Lab
    plan: Plan
    running: dict[str, Application] = field(default_factory=dict)
    conversations: list[Conversation] = field(default_factory=list)
    configs: dict[str, dict[str, Any]] = field(default_factory=dict)
    trace: list[str] = field(default_factory=list)
    """What was done and answered, with the time since the beginning in seconds."""
    calls: int = 0
    longest_stop_s: float = 0.0
    _words: dict[str, str] = field(default_factory=dict)
    _idents: int = 0
    _began: float = field(default_factory=time.monotonic)

    def run(self) -> None:
        """Runs the whole plan, and ends both processes."""
        self._prepare()
        for process in PROCESSES:
            self._start(process, self._base_config(process))
        files = self._files_of_idle_processes()
        for step in self.plan.steps:
            self.note(str(step))
            self._step(step)
            self._assert_running()
        self._collect()
        self._delete_everything()
        self._assert_nothing_left()
        self._assert_usable(files)
        for process in self.plan.sweep:
            self._stop(process)

    def note(self, text: str) -> None:
        self.trace.append(f"{time.monotonic() - self._began:8.3f} {text}")

    def _prepare(self) -> None:
        folder = self.lab.folder
        self._words = {port: str(free_port()) for port in PORTS} | {"$FOLDER": str(folder)}
        for file in FILES:
            with open(self._concrete(file), "wb") as volume:
                volume.truncate(FILE_MIB << 20)
        key = KeyFile(folder, "key0").key
        KeyFile(folder, "key1", key if self.plan.seed % 2 else bytes(32))

    def _concrete(self, params: Any) -> Any:
        """Returns the parameters with the ports and files of this run."""
        if isinstance(params, str):
            for word, meaning in self._words.items():
                params = params.replace(word, meaning)
            return params
        if isinstance(params, dict):
            return {name: self._concrete(value) for name, value in params.items()}
        if isinstance(params, list):
            return [self._concrete(value) for value in params]
        return params

    def _base_config(self, process: str) -> dict[str, Any]:
        of_target, of_client = ("dst_set_options", TARGET_TIMES), ("bdev_dst_set_options", CLIENT_TIMES)
        method, times = of_target if process == TARGET else of_client
        return {"subsystems": [{"subsystem": "bdev", "config": [{"method": method, "params": times}]}]}

    # Processes.

    def _start(self, process: str, config: dict[str, Any]) -> None:
        started = self.lab.spdk_tgt(process, CORES[process], BINARIES[process], config=config)
        self.running[process] = started

    def _assert_running(self) -> None:
        for application in self.running.values():
            application.assert_running()

    def _call(self, process: str, method: str, **params: Any) -> Any:
        """Calls a method that must succeed."""
        return self.running[process].rpc.call(method, rpc_timeout=ANSWER_S, **self._concrete(params))

    def _ended(self, process: str) -> None:
        """Forgets a process and the answers that it owed."""
        del self.running[process]
        for conversation in [c for c in self.conversations if c.process == process]:
            conversation.sock.close()
            self.conversations.remove(conversation)

    def _stop(self, process: str) -> None:
        application = self.running[process]
        began = time.monotonic()
        application.signal(signal.SIGTERM)
        wait_until(lambda: has_exited(application), f"{process} to stop", STOP_S)
        seconds = time.monotonic() - began
        code = wait_freed(application)
        self.note(f"{process} has stopped after {seconds:.1f} s")
        self.longest_stop_s = max(self.longest_stop_s, seconds)
        application.after_end()
        assert code == 0, f"{process} was told to stop, and ended with exit code {code}"
        self._ended(process)

    # Steps.

    def _step(self, step: Step) -> None:
        match step:
            case Send(process, calls, abandon):
                self._send(process, calls, abandon)
            case SendGarbage(process, data):
                self._send_garbage(process, data)
            case Collect():
                self._collect()
            case Pause(ms):
                time.sleep(ms / 1000)
            case Freeze(process, ms):
                self.running[process].signal(signal.SIGSTOP)
                time.sleep(ms / 1000)
                self.running[process].signal(signal.SIGCONT)
            case Save(process):
                self.configs[process] = saved(self.running[process])
            case Kill(process):
                application = self.running[process]
                application.signal(signal.SIGKILL)
                wait_freed(application)
                application.after_end()
                self._ended(process)
            case Stop(process):
                self._stop(process)
            case Start(process, is_saved):
                base = self._base_config(process)
                self._start(process, self.configs.get(process, base) if is_saved else base)
            case Reload(process):
                self._reload(process)

    def _connect(self, process: str) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.lab.on_end(sock.close)
        sock.settimeout(ANSWER_S)
        sock.connect(str(self.running[process].socket_path))
        return sock

    def _send(self, process: str, calls: tuple[Call, ...], abandon: bool) -> None:
        self.calls += len(calls)
        waiting: dict[int, Call] = {}
        for call in calls:
            self._idents += 1
            waiting[self._idents] = call
        requests = [
            {"jsonrpc": "2.0", "id": ident, "method": call.method, "params": self._concrete(call.params)}
            for ident, call in waiting.items()
        ]
        sock = self._connect(process)
        sock.sendall("".join(json.dumps(request) for request in requests).encode())
        if abandon:
            sock.close()
        else:
            self.conversations.append(Conversation(sock, process, waiting, time.monotonic() + ANSWER_S))

    def _send_garbage(self, process: str, data: bytes) -> None:
        with self._connect(process) as sock:
            try:
                sock.sendall(data)
            except OSError:
                # SPDK has closed the connection already.
                pass

    def _collect(self) -> None:
        """Waits for all answers."""
        while self.conversations:
            by_socket = {c.sock: c for c in self.conversations}
            ready, _, _ = select.select(list(by_socket), [], [], 0.5)
            for sock in ready:
                self._take_answers(by_socket[sock])
            self._assert_running()
            late = [c for c in self.conversations if time.monotonic() > c.deadline]
            assert not late, "no answer in %g s from %s to: %s" % (
                ANSWER_S,
                late[0].process,
                "; ".join(str(call) for call in late[0].waiting.values()),
            )

    def _take_answers(self, conversation: Conversation) -> None:
        answers = conversation.read()
        if answers is None:
            self._assert_running()
            asked = "; ".join(str(call) for call in conversation.waiting.values())
            raise AssertionError(f"{conversation.process} closed the connection instead of answering: {asked}")
        for call, answer in answers:
            self._check(conversation.process, call, answer)
        if not conversation.waiting:
            conversation.sock.close()
            self.conversations.remove(conversation)

    def _check(self, process: str, call: Call, answer: dict[str, Any]) -> None:
        error = answer.get("error")
        self.note(f"  {process} {call.method}: {json.dumps(error or answer['result'])[:200]}")
        if error is not None:
            assert error["code"] < 0 and error["message"], f"{call} is answered with {error}"
            assert DROPPED not in error["message"], f"{process} forgot to answer {call}"

    def _reload(self, process: str) -> None:
        """What a target saves is what it is: nothing is half-made. A client's configuration may
        change meanwhile, since a target removes bdevs."""
        config = saved(self.running[process])
        self._stop(process)
        self._start(process, config)
        if process == TARGET:
            again = saved(self.running[process])
            same = without_displaced(again) == without_displaced(config)
            assert same, f"saved: {config}, after a restart with it: {again}"

    # The end.

    def _delete_everything(self) -> None:
        for process in self.plan.sweep:
            {TARGET: self._delete_at_target, CLIENT: self._delete_at_client}[process]()

    def _delete(self, process: str, method: str, **params: Any) -> None:
        """Deletes what is there, or was there a moment ago."""
        self.note(f"{process} {method} {params}")
        try:
            self._call(process, method, **params)
        except RpcError as error:
            self.note(f"  {error}")

    def _delete_bdevs(self, process: str) -> None:
        bdevs = self._call(process, "bdev_get_bdevs")
        # Those on top of others first.
        for bdev in sorted(bdevs, key=lambda bdev: bdev["product_name"] != "passthru"):
            if bdev["product_name"] in DELETIONS:
                self._delete(process, DELETIONS[bdev["product_name"]], name=bdev["name"])

    def _delete_at_target(self) -> None:
        for export in self._call(TARGET, "dst_get_exports"):
            self._delete(TARGET, "dst_delete_export", name=export["name"])
        for listener in self._call(TARGET, "dst_get_listeners"):
            place = {name: listener[name] for name in ("traddr", "trsvcid", "adrfam")}
            self._delete(TARGET, "dst_delete_listener", **place)
        self._delete_bdevs(TARGET)
        self._call(TARGET, "dst_set_workers", cpumask="[]")

    def _delete_at_client(self) -> None:
        self._call(CLIENT, "check_stop")
        for info in self._call(CLIENT, "bdev_dst_get_info"):
            self._delete(CLIENT, "bdev_dst_delete", name=info["name"])
        self._delete_bdevs(CLIENT)
        self._call(CLIENT, "dst_set_workers", cpumask="[]")

    def _assert_nothing_left(self) -> None:
        for process, method in (
            (TARGET, "dst_get_exports"),
            (TARGET, "dst_get_listeners"),
            (TARGET, "bdev_get_bdevs"),
            (CLIENT, "bdev_dst_get_info"),
            (CLIENT, "bdev_get_bdevs"),
        ):
            # A bdev whose export was deleted goes by itself, a moment later.
            gone: Callable[[], bool] = lambda p=process, m=method: self._call(p, m) == []
            wait_until(gone, f"{process}: {method} to return nothing after everything was deleted", ANSWER_S)

        def quiet() -> bool:
            stats = self._call(TARGET, "dst_get_stats")
            return not any(stats[name] for name in NUMBERS)

        wait_until(quiet, "the target's connections and sessions to end", ANSWER_S)

    def _make_use(self) -> None:
        """Exports a bdev, attaches it, writes to it, and deletes everything."""
        port, uuid = PORTS[0], "00000000-0000-0000-0000-0000000000ff"
        self._call(TARGET, "bdev_malloc_create", name="Last0", num_blocks=2048, block_size=512)
        self._call(TARGET, "dst_create_export", name="last", bdev_name="Last0", uuid=uuid)
        self._call(TARGET, "dst_export_add_host", export="last", host="*", access="rw")
        self._call(TARGET, "dst_create_listener", traddr="127.0.0.1", trsvcid=port)
        place = {"traddr": "127.0.0.1", "trsvcid": port, "export": "last"}
        self._call(CLIENT, "bdev_dst_create", name="Last0", **place, attach_timeout_ms=20_000)
        assert self._call(CLIENT, "check_flush", bdev="Last0")["success"], "a flush fails"
        self._delete_everything()
        self._assert_nothing_left()

    def _files_of_idle_processes(self) -> dict[str, int]:
        """Returns how many files each process has open after everything was used once."""
        self._make_use()
        return {process: application.open_files() for process, application in self.running.items()}

    def _assert_usable(self, files: dict[str, int]) -> None:
        """The processes still do what they are for, and have no more files open than before."""
        self._make_use()
        for process, application in self.running.items():
            closed: Callable[[], bool] = lambda a=application, n=files[process]: a.open_files() <= n
            wait_until(closed, f"{process} to have at most {files[process]} files open", ANSWER_S)


def logs(runner: Runner) -> str:
    """Returns what a failure is explained from."""
    parts = [f"the last steps of seed {runner.plan.seed}:", *runner.trace[-150:]]
    for process in runner.lab.processes[-6:]:
        parts += [f"log of {process.name} (exit code {process.exit_code}):", process.tail(40)]
    return "\n".join(parts)
