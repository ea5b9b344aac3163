"""Processes that tests start. Each has its own process group and log file, and is ended."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
from pathlib import Path
from typing import Mapping, Sequence

from harness.waiting import wait_until

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


def _die_with_parent() -> None:
    # Even a killed test run leaves no process behind that polls a core for ever.
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Process:
    def __init__(
        self, name: str, command: Sequence[str | os.PathLike[str]], log: Path, env: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.log = log
        self.command = [os.fspath(part) for part in command]
        with open(log, "ab") as output:
            output.write(("$ " + " ".join(self.command) + "\n").encode())
            output.flush()
            self._popen = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=None if env is None else dict(env),
                # A core file is written to a folder that is cleaned up.
                cwd=log.parent,
                # No session of its own: Linux's autogroup shares each CPU between sessions, and on
                # 6.18 a session whose reactor shares its core with a napping worker was seen to keep
                # that CPU from all others for as long as it ran.
                process_group=0,
                preexec_fn=_die_with_parent,
            )

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def exit_code(self) -> int | None:
        """The exit code, or None while the process runs."""
        return self._popen.poll()

    def text(self) -> str:
        """Returns everything printed so far."""
        return self.log.read_text(errors="replace")

    def assert_running(self) -> None:
        code = self.exit_code
        assert code is None, f"{self.name} ended by itself, exit code {code}:\n{self.tail()}"

    def tail(self, lines: int = 60) -> str:
        """Returns the last lines printed, and the first ones if there are more."""
        printed = self.text().splitlines()
        if len(printed) > 2 * lines:
            printed[lines:-lines] = [f"({len(printed) - 2 * lines} lines left out)"]
        return "\n".join(printed)

    def wait_for_text(self, text: str, timeout: float = 20.0) -> None:
        def there() -> bool:
            if text in self.text():
                return True
            self.assert_running()
            return False

        wait_until(there, f"{self.name} to print {text!r}", timeout)

    def after_end(self) -> None:
        """Removes what a killed process of this kind leaves behind."""

    def wait(self, timeout: float = 30.0) -> int:
        """Waits until the process ends by itself and returns its exit code."""
        try:
            return self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} still runs after {timeout:g} s:\n{self.tail()}") from None

    def signal(self, number: int) -> None:
        """Sends a signal. After SIGSTOP, returns once the process has stopped: on a busy machine its
        threads run on for a while."""
        os.killpg(self.pid, number)
        if number == signal.SIGSTOP:
            wait_until(self._is_stopped, f"{self.name} to stop")

    def _is_stopped(self) -> bool:
        # proc_pid_stat(5): the state comes after the name, which may contain anything.
        threads = Path(f"/proc/{self.pid}/task").glob("*/stat")
        return all(thread.read_text().rpartition(")")[2].split()[0] == "T" for thread in threads)

    def stop(self, timeout: float = 10.0) -> int:
        """Asks the process to end, kills it if it does not, and returns the exit code."""
        if self._popen.poll() is None:
            self.signal(signal.SIGTERM)
            try:
                self._popen.wait(timeout)
            except subprocess.TimeoutExpired:
                with open(self.log, "a") as log:
                    log.write(f"(still running {timeout:g} s after SIGTERM: killed)\n")
                self.kill()
        self.after_end()
        return self._popen.returncode

    def kill(self) -> None:
        if self._popen.poll() is None:
            self.signal(signal.SIGKILL)
        self._popen.wait(10)
        self.after_end()

    def rss_mib(self) -> float:
        """Returns the resident memory that is neither hugepages nor shared."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) / 1024
        raise AssertionError(f"no RssAnon for {self.name}")

    def descriptors(self) -> int:
        """Returns the number of file descriptors, which RLIMIT_NOFILE limits."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def open_files(self) -> int:
        """Returns the number of open files that say whether something was left open."""
        return self.descriptors()
