"""`python -m bench.side MODULE CASE SIDE PAIR`: one side of one case; the last line printed is its result, as JSON."""

from __future__ import annotations

import importlib
import json
import os
import resource
import sys
from dataclasses import asdict

from bench.measure import Case


def case_of(module: str, name: str) -> Case:
    """The case called `name` in bench/<module>.py."""
    [case] = [case for case in importlib.import_module(f"bench.{module}").CASES if case.name == name]
    return case


def main(module: str, name: str, side: str, pair: str) -> None:
    """Measure, and print."""
    case = case_of(module, name)
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(case.threads)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    result = (case.ours if side == "ours" else case.peers[side])(int(pair))
    kilobytes = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    print(json.dumps(asdict(result) | {"peak_megabytes": round(kilobytes / 1024, 1)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
