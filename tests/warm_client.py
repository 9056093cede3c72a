"""What `python` and `reprise` are in the folder of warm.py: it has a command forked, and ends as the command does."""

from __future__ import annotations

import marshal
import os
import signal
import socket
import sys
from typing import Any, NoReturn

HEAVY = {"pretrain", "finetune", "evaluate", "run", "trial", "power"}
"""Commands that import torch, or start a fork server that does. Forked, any other would take longer: a fork of so much
memory, and what is copied of it as it is written to, is a quarter of a second."""
RANKS = {"RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK"}
"""What Lightning asks, as it is imported, for whether a process is the first of several."""
PASSED_ON = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


def main(python: str, program: str, address: str) -> NoReturn:
    """Run `program`, a script or the interpreter `python`, with the arguments of this process."""
    words = sys.argv[1:]
    command = words if program == python else [program, *words]
    told = words if program != python else words[2:] if words[:2] == ["-m", "reprise"] else []
    if not (HEAVY.intersection(told[:1]) and _plain()):
        _cold(python, command)
    with socket.socket(socket.AF_UNIX) as server:
        try:
            server.connect(address)
        except OSError:
            _cold(python, command)
        _end(_status(server, command))


def _plain() -> bool:
    """Whether nothing here is for an interpreter to see as it starts, or for a library as it is imported."""
    told = {name for name, value in os.environ.items() if name.startswith("PYTHON") and value}
    return told <= {"PYTHONPATH"} and RANKS.isdisjoint(os.environ) and not any(map(os.isatty, (0, 1, 2)))


def _cold(python: str, command: list[str]) -> NoReturn:
    os.execv(python, [python, *command])


def _status(server: socket.socket, command: list[str]) -> int:
    """Have it run; its exit status, negative for a signal."""
    ignored = [int(one) for one in PASSED_ON if signal.getsignal(one) is signal.SIG_IGN]
    os.umask(mask := os.umask(0))
    asked: tuple[Any, ...] = (command, os.getcwd(), dict(os.environ), ignored, mask, os.getpgid(0))
    signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)  # until there is a process to pass them on to
    content = marshal.dumps(asked)
    socket.send_fds(server, [len(content).to_bytes(8, "big")], [0, 1, 2])
    server.sendall(content)
    pid = _number(server)
    for one in PASSED_ON:
        signal.signal(one, lambda signum, frame: os.kill(pid, signum))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
    return _number(server)


def _number(server: socket.socket) -> int:
    content = server.recv(8, socket.MSG_WAITALL)
    if len(content) < 8:
        sys.exit("tests/warm.py: the server is no more")
    return int.from_bytes(content, "big", signed=True)


def _end(status: int) -> NoReturn:
    if status < 0:
        signal.signal(-status, signal.SIG_DFL) if -status != signal.SIGKILL else None
        os.kill(os.getpid(), -status)
    os._exit(status)
