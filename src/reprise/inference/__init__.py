"""What can be done with a finished model: looked at, played with, given away.

Nothing here is part of an experiment, so that an edit makes no result stale. A paper whose models do more than be
exported has one small file here, `<key>.py`, found by its name. It exports `MODELS`, of one of the kinds in `kinds.py`:

    MODELS = Classifier(parts=lambda task: Parts(flat, task.network))

`reprise try` and `reprise export` know the kinds and no paper. A paper without a file is exported by the names that
its `networks(config)` returns (`models.default_networks`).
"""
