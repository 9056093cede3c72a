"""A program that speaks GTP, for tests: it makes the moves that it is given, and then passes.

    python gtp_program.py [--name NAME] [--version N] [--fault FAULT] [MOVE]...

Faults: `dies` at genmove; `refuses` the board; `refuses_moves`; `silent` at genmove; `deaf` to everything, `quit` too;
`talks` otherwise than by GTP; `terminates` the process that started it, and writes its own id to the log.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--version", default="2")
    parser.add_argument("--fault", default="")
    parser.add_argument("--score", default="")
    parser.add_argument("--log")
    parser.add_argument("moves", nargs="*")
    asked = parser.parse_args()
    left = list(asked.moves)
    if asked.fault == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print(flush=True)
        while True:
            time.sleep(3600)
    for line in sys.stdin:
        command, *words = line.split()
        if command == "genmove" and asked.fault == "terminates":
            Path(asked.log).write_text(str(os.getpid()))
            os.kill(os.getppid(), signal.SIGTERM)
            time.sleep(3600)
        if asked.log and asked.fault != "terminates":
            with open(asked.log, "a") as log:
                log.write(line)
        answer = {"protocol_version": asked.version, "name": "Fake", "version": "1.0", "boardsize": "", "komi": ""}.get(
            command, ""
        )
        sign = "="
        if asked.fault == "talks":
            print("GNU Go is here\n")
        if command == "clear_board":
            left = list(asked.moves)
        elif command == "genmove":
            if asked.fault == "dies":
                sys.exit("out of memory")
            if asked.fault == "silent":
                continue
            answer = left.pop(0) if left else "PASS"
        elif command == "final_score":
            sign, answer = ("=", asked.score) if asked.score else ("?", "unknown command")
        elif (command, asked.fault) in {("boardsize", "refuses"), ("play", "refuses_moves")}:
            sign, answer = "?", "unacceptable size" if command == "boardsize" else f"illegal move {words[-1]}"
        print(f"{sign} {answer}\r\n\r\n", end="", flush=True)
        if command == "quit":
            return


if __name__ == "__main__":
    main()
