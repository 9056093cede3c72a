"""Results stay small enough for git: the numbers and pictures of each paper."""

from __future__ import annotations

from pathlib import Path

import pytest

from conftest import REPOSITORY

LIMIT = 600_000
"""Bytes of a paper's results at one scale."""
DRAWN_BEFORE = {
    "activations": 607_000,
    "backprop_mlp": 836_000,
    "gan": 1_149_000,
    "initialisation": 699_000,
    "layerwise_pretraining": 1_171_000,
    "regularisation": 620_000,
}
"""Bytes of results whose pictures are older than the limit: they are drawn again with the next evaluation."""
FOLDERS = sorted(card.parent for card in (REPOSITORY / "results").rglob("card.json"))


def size(folder: Path) -> int:
    """Bytes of all files in it."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.relative_to(REPOSITORY)))
def test_results_of_a_paper_are_small(folder: Path) -> None:
    largest = sorted((file for file in folder.rglob("*") if file.is_file()), key=lambda file: -file.stat().st_size)[:5]
    said = ", ".join(f"{file.relative_to(folder)} {file.stat().st_size:,}" for file in largest)
    limit = max(LIMIT, DRAWN_BEFORE.get(folder.name, 0))
    assert size(folder) <= limit, f"{size(folder):,} bytes, of which the largest: {said}"


def test_there_are_results() -> None:
    assert FOLDERS
