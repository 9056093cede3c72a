"""Judging claims from the scores of runs, and reading and writing results/, where verdicts are kept."""
