"""What can be done with a finished model: looked at, played with, given away.

Nothing here is part of an experiment, so that an edit makes no result stale. A paper has a file of its own where its
models do something of their own (`gan.py`, `dqn.py`, `bert.py`, `foundations.py`); all that sort images share
`classifiers.py`. Each file says of a task which networks it has, as functions with example inputs: `export` writes
those, and `try` uses them.
"""
