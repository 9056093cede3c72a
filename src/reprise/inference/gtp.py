"""Another program that plays Go, spoken to by the Go Text Protocol.

Farnebäck, GTP version 2, draft 2, 2002, https://www.lysator.liu.se/~gunnar/gtp/. A command is a line; an answer begins
with = or, for a failure, with ?, and ends with an empty line.

Nothing here imports torch, so that a program that is not there is told before a model is loaded.
"""

from __future__ import annotations

import contextlib
import os
import queue
import re
import shlex
import signal
import subprocess
import tempfile
import threading
import time
from types import TracebackType
from typing import NoReturn

from reprise.core.config.yaml import did_you_mean
from reprise.inference.kinds import Unusable

PATIENCE = 300.0
"""Seconds that the program has for each answer."""
FAREWELL = 2.0
"""Seconds that it has to end after `quit`."""
LONGEST = 10_000
"""Characters of a line that are read at a time, and lines that may wait to be read."""
KNOWN = ("gnugo", "katago", "pachi", "fuego", "leelaz")
"""Programs that speak GTP, for hints."""
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


class Refused(Unusable):
    """The program answered with ?, a failure."""


class Engine:
    """A running program. As a context manager it ends the program, whatever happens."""

    def __init__(self, command: str, patience: float = PATIENCE) -> None:
        """`command`: the program and its arguments, quoted as for a shell; `patience`: seconds for each answer.

        Raises:
            Unusable: it cannot be started.
        """
        try:
            words = shlex.split(command)
        except ValueError as error:
            raise Unusable(f"{str(error).lower()}: expected a program and its arguments, as for a shell") from error
        if not words:
            raise Unusable("expected a program and its arguments, as in 'gnugo --mode gtp'")
        self.patience, self._log = patience, tempfile.TemporaryFile("a+b")  # noqa: SIM115 `close` closes it
        try:
            # A group of its own, so that what a wrapper script starts can be ended with it.
            self._process = subprocess.Popen(
                words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log,
                encoding="utf-8", errors="replace", start_new_session=True,
            )  # fmt: skip
        except FileNotFoundError as error:
            self._log.close()
            near = did_you_mean(words[0], KNOWN)
            hint = near or ": is it installed? On Debian `apt install gnugo` installs GNU Go"
            raise Unusable(f"there is no program {words[0]}{hint}") from error
        except OSError as error:
            self._log.close()
            raise Unusable(f"{words[0]} cannot be started: {error.strerror}") from error
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._input, self._output = self._process.stdin, self._process.stdout
        self._lines: queue.Queue[str] = queue.Queue(LONGEST)
        # A thread, because reading from a pipe cannot be given up after a while.
        self._reader = threading.Thread(target=self._read, name="answers by GTP", daemon=True)
        self._reader.start()
        try:
            self.name = self._introduced(os.path.basename(words[0]))
        except BaseException:
            self.close()
            raise

    def _introduced(self, program: str) -> str:
        """Return its name and version.

        Raises:
            Unusable: it speaks another version of the protocol, or none.
        """
        if (version := self._if_known("protocol_version")) not in ("", "2"):
            raise Unusable(f"it speaks version {version} of GTP; expected 2")
        return f"{self._if_known('name') or program} {self._if_known('version')}".strip()

    def _if_known(self, command: str) -> str:
        """Return the answer to a command that some programs lack, or nothing."""
        try:
            return self.ask(command)
        except Refused:
            return ""

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def ask(self, command: str) -> str:
        """Send a command and return the answer, without = and outer blanks.

        Raises:
            Refused: the program answered with ?.
            Unusable: it ended, did not answer in time, or the answer is not GTP.
        """
        try:
            self._input.write(command + "\n")
            self._input.flush()
        except OSError:
            self._ended(command)
        answer, deadline = list[str](), time.monotonic() + self.patience
        while True:
            try:
                line = self._lines.get(timeout=max(deadline - time.monotonic(), 0))
            except queue.Empty:
                line = None
            if line is None or time.monotonic() > deadline:
                raise Unusable(f"`{command}` was not answered within {self.patience:g} seconds")
            if not line:
                self._ended(command)
            line = _CONTROL.sub("", line).strip()
            if line and not answer and line[0] not in "=?":
                raise Unusable(
                    f"`{command}` was answered with {line[:40]!r}; expected = or ? at the beginning: "
                    "is this how the program is told to speak GTP?"
                )
            if line:
                answer.append(line)
            elif answer:
                break
        said = "\n".join(answer)[1:].strip()
        if answer[0].startswith("?"):
            raise Refused(f"`{command}` was refused: {said or 'it does not say why'}")
        return said

    def final_score(self) -> str:
        """Return how the program itself counts the game, such as B+3.5; empty if it does not say."""
        return self._if_known("final_score")

    def close(self) -> None:
        """Tell the program to quit, and end it if it does not."""
        with contextlib.suppress(OSError):
            self._input.write("quit\n")
            self._input.flush()
        with contextlib.suppress(OSError):
            self._input.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(FAREWELL)
        with contextlib.suppress(ProcessLookupError, PermissionError):  # nobody of the group is left
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join(FAREWELL)
        if not self._reader.is_alive():  # else closing would wait for it
            self._output.close()
        self._log.close()

    def _read(self) -> None:
        """Queue what the program prints, line by line, and an empty text for its end."""
        while line := self._output.readline(LONGEST):
            self._lines.put(line)
        self._lines.put("")

    def _ended(self, command: str) -> NoReturn:
        """Raise an error that says how the program ended."""
        try:
            status = f"with status {self._process.wait(FAREWELL)}"
        except subprocess.TimeoutExpired:
            status = "its output"
        self._log.seek(0)
        said = self._log.read().decode("utf-8", "replace").strip().splitlines()
        raise Unusable(f"it ended {status} at `{command}`" + (f", saying: {said[-1].strip()}" if said else ""))
