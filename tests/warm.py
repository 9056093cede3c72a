"""Python that has torch and Lightning loaded: a command of a test is forked from it, not started from nothing.

Four runs of the toy paper take a second; what `reprise pretrain` and its fork server import first takes ten. So
`folder()`, to be put first in PATH, has a `python` and a `reprise` that ask a server of this pytest's to fork. They
hand over arguments, folder, environment and streams, pass signals on, and end as the command ends; if they are killed,
so is the command. Only third-party packages are loaded beforehand: each command imports Reprise anew, from PYTHONPATH.

A command has an interpreter of its own where it needs no torch, where a variable tells Python something as it starts or
Lightning as it is imported (a rank), and where it has a terminal; with REPRISE_TESTS_COLD=1 every command has. Docs and
integration start all theirs so.
"""

from __future__ import annotations

import atexit
import fcntl
import gc
import marshal
import os
import runpy
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from contextlib import ExitStack, suppress
from functools import cache
from importlib import import_module
from multiprocessing import util
from pathlib import Path
from types import ModuleType
from typing import Any

LOADED = [
    "jaxtyping", "omegaconf", "PIL.Image", "pydantic.functional_validators", "pydantic.json_schema",
    "pydantic.networks", "pydantic.type_adapter", "pytorch_lightning", "requests", "safetensors.torch", "scipy.stats",
    "threadpoolctl", "torch", "typer", "yaml",
]  # fmt: skip
"""What commands import besides Reprise."""
FORKS = sys.platform == "linux" and " " not in sys.executable and not os.environ.get("REPRISE_TESTS_COLD")
"""Whether commands are forked: elsewhere a fork of so much is not safe, and a script's first line takes no blanks."""
STREAMS = (0, 1, 2)
ASIDE = 256
"""Numbers of files from here on are nobody's yet."""
SHIM = """\
#!{python} -IS
import sys
sys.path.append({tests!r})
from warm_client import main
main({python!r}, {program!r}, {address!r})
"""

_STARTED = ExitStack()


@cache
def folder() -> str:
    """A folder of `python` and `reprise` that fork; that of the interpreter itself where it cannot be forked."""
    cold = Path(sys.executable).parent
    if not FORKS:
        return str(cold)
    made = Path(tempfile.mkdtemp(prefix="warm-"))  # not pytest's: the path of a socket has at most 107 characters
    _STARTED.callback(shutil.rmtree, made, ignore_errors=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address := str(made / "socket"))
    listener.listen(64)
    names = {"python": sys.executable, "reprise": str(cold / "reprise")}
    for name, program in names.items():
        text = SHIM.format(python=sys.executable, program=program, address=address, tests=str(Path(__file__).parent))
        (made / name).write_text(text)
        (made / name).chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    server = subprocess.Popen(
        [sys.executable, "-I", __file__, str(listener.fileno())],
        env=environment | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
        pass_fds=[listener.fileno()], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    listener.close()
    _STARTED.callback(server.wait)
    _STARTED.callback(server.stdin.close)  # type: ignore[union-attr]
    return str(made)


def python() -> str:
    """The `python` of `folder()`; the interpreter itself where it cannot be forked."""
    return f"{folder()}/python" if FORKS else sys.executable


def stop() -> None:
    """End the server, if there is one."""
    _STARTED.close()


# The server


def serve(listener: socket.socket) -> tuple[tuple[Any, ...], list[int]] | None:
    """In a process forked for it, what a client asks for, with its streams; None in the server, once pytest is gone."""
    signal.signal(signal.SIGCHLD, _reap)
    with selectors.DefaultSelector() as selector:
        for end in (listener, sys.stdin):
            selector.register(end, selectors.EVENT_READ)
        while True:
            ready = {key.fileobj for key, _ in selector.select()}
            if sys.stdin in ready:  # it is never written to: it was closed
                return None
            connection, _ = listener.accept()
            if os.fork() == 0:
                break
            connection.close()
    listener.close()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    length, streams, _, _ = socket.recv_fds(connection, 8, 3)
    asked = marshal.loads(connection.recv(int.from_bytes(length, "big"), socket.MSG_WAITALL))
    pid = os.fork()
    if pid == 0:
        connection.close()
        return asked, streams
    for stream in streams:
        os.close(stream)
    _watch(connection, pid)
    os._exit(0)


def _reap(*_: object) -> None:
    """Of what ended: so its processor time counts as this process's (see cpu_times.py)."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _watch(connection: socket.socket, pid: int) -> None:
    """Tell the client which process it is and how it ended; if the client is killed, so is the process."""

    ended = threading.Event()

    def kill() -> None:
        with suppress(OSError):
            connection.recv(1)  # it sends nothing more: this ends when it does
            if not ended.is_set():
                os.kill(pid, signal.SIGKILL)

    with suppress(BrokenPipeError):
        connection.sendall(pid.to_bytes(8, "big", signed=True))
    threading.Thread(target=kill, daemon=True).start()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    ended.set()
    with suppress(BrokenPipeError):
        connection.sendall(status.to_bytes(8, "big", signed=True))


# The command


def become(asked: tuple[Any, ...], streams: list[int], paths: list[str]) -> None:
    """Be the interpreter that a client was started as; `paths` are those of its installation."""
    command, where, environment, ignored, mask, group = asked
    for target, stream in enumerate(streams):
        os.dup2(stream, target)
        os.close(stream)
    os.chdir(where)
    os.umask(mask)
    with suppress(OSError):  # a client of another session
        os.setpgid(0, group)
    os.environ.clear()
    os.environ.update(environment)
    for signum in ignored:
        signal.signal(signum, signal.SIG_IGN)
    named = [one for one in environment.get("PYTHONPATH", "").split(os.pathsep) if one]
    as_module = command[0] == "-m"
    sys.argv = command[1:] if as_module else command
    sys.path[:] = [where if as_module else str(Path(command[0]).parent), *named, *paths]
    hold_a_fork_server()
    main = sys.modules["__main__"] = ModuleType("__main__")
    if as_module:
        runpy._run_module_as_main(command[1])  # type: ignore[attr-defined]
    else:
        main.__file__ = command[0]
        exec(compile(Path(command[0]).read_text(), command[0], "exec"), main.__dict__)


def hold_a_fork_server() -> None:
    """Fork what will be multiprocessing's fork server, should this command start one: before it imports Reprise."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        ours.close()
        _become_fork_server(theirs)
        sys.exit()
    theirs.close()
    start, waiting = util.spawnv_passfds, [pid]

    def spawnv_passfds(path: Any, words: list[Any], fds: list[int]) -> int:
        if not waiting or not str(words[-1]).startswith("from multiprocessing.forkserver import main"):
            return start(path, words, fds)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        content = marshal.dumps((words[-1], dict(os.environ), list(fds)))
        socket.send_fds(ours, [len(content).to_bytes(8, "big")], [*STREAMS, *fds])
        ours.sendall(content)
        ours.close()
        return waiting.pop()

    util.spawnv_passfds = spawnv_passfds


def _become_fork_server(connection: socket.socket) -> None:
    """Wait until the command asks for it; then have its streams, and its files under the numbers that it says."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    kept = fcntl.fcntl(connection.detach(), fcntl.F_DUPFD_CLOEXEC, ASIDE)
    os.closerange(0, kept)
    os.closerange(kept + 1, os.sysconf("SC_OPEN_MAX"))
    asking = socket.socket(fileno=kept)
    length, received, _, _ = socket.recv_fds(asking, 8, 16)
    if not length:
        os._exit(0)  # the command ended without one
    code, environment, fds = marshal.loads(asking.recv(int.from_bytes(length, "big"), socket.MSG_WAITALL))
    asking.close()
    moved = [fcntl.fcntl(one, fcntl.F_DUPFD_CLOEXEC, ASIDE) for one in received]
    os.closerange(0, ASIDE)
    for one, target in zip(moved, (*STREAMS, *fds), strict=True):
        os.dup2(one, target)
        os.close(one)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(environment)
    main = sys.modules["__main__"] = ModuleType("__main__")
    exec(code, main.__dict__)


if __name__ == "__main__":
    for name in LOADED:
        import_module(name)
    gc.collect()
    gc.freeze()  # what is loaded is not copied when rubbish is sought
    paths = [path for path in sys.path if path]
    request = serve(socket.socket(fileno=int(sys.argv[1])))
    if request is not None:
        status = 0
        try:
            become(*request, paths)
        except SystemExit as ended:
            if isinstance(ended.code, str):
                print(ended.code, file=sys.stderr)
            status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        # As the interpreter ends, without taking apart what it has loaded: that would copy all of it first.
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(status & 0xFF)
