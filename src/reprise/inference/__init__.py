"""Using finished models: classifying, sampling, playing, filling in words, and exporting.

Nothing here is part of an experiment, so editing it makes no result stale. A paper whose models can do more than be
exported has a small file `<key>.py` here, found by its name. It exports `MODELS`, of one of the kinds in `kinds.py`:

    MODELS = Classifier(parts=lambda task: Parts(flat, task.network))

`reprise try` and `reprise export` know the kinds but no paper. For a paper without a file here, the networks that
`networks(config)` returns are exported under their names (`models.default_networks`).
"""
