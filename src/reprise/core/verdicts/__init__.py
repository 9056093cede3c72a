"""Claims judged from the scores of runs, and results/, where the verdicts are kept."""
