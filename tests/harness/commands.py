"""Short-lived system commands, with a deadline."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import Sequence


def run(command: Sequence[str | os.PathLike[str]], timeout: float = 30.0) -> str:
    """Runs a command to its end and returns what it printed; fails on a non-zero exit code.

    A command that hangs in the kernel cannot be killed. It is left behind and not waited for; it
    ends with the processes of the test.
    """
    process = subprocess.Popen(
        [os.fspath(part) for part in command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        process_group=0,
    )
    try:
        output, _ = process.communicate(timeout=timeout)
    except BaseException as error:
        os.killpg(process.pid, signal.SIGKILL)
        if isinstance(error, subprocess.TimeoutExpired):
            raise AssertionError(f"still running after {timeout:g} s: {process.args}") from None
        raise
    assert process.returncode == 0, f"exit code {process.returncode} of {process.args}:\n{output[-4000:]}"
    return output


def attempt(command: Sequence[str | os.PathLike[str]], timeout: float = 10.0) -> None:
    """Runs a command for cleaning up, and ignores its exit code."""
    try:
        run(command, timeout)
    except AssertionError:
        pass
