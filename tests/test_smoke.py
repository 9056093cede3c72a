"""Every paper trained at smoke scale: results of every arm, the goldens, kills, two processes.

The tests of one paper go to one worker, so that they share its folder. Papers whose code, knobs and tests are as they
were when all of them last passed are left out (see tests/unchanged.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import golden
import smoke
import spread
from layout import REPOSITORY, papers, results_of
from smoke import Smoke
from survival import survived

PAPERS = papers()
LEFT = ["card.json", "claims.json", "cost.csv", "metrics.json", "pictures", "plots", "runs.csv"]
"""What evaluation leaves in results."""

NOT_DESCENDED = {"gmdh", "neocognitron", "svm_vs_net", "word2vec", "double_descent", "regularized_evolution"}
"""Papers that learn without a gradient to average over ranks."""
NOISY = (
    "gan/", "dcgan/", "dqn/", "alphago_zero/", "layerwise_pretraining/pretrain/", "resnet/", "highway/", "vgg/",
    "alexnet/",
)  # fmt: skip
"""Stages of which each rank has something of its own: samples of a GAN, games, states of units, units that are dropped,
or the statistics of batch normalisation, which are over its share of the batch."""


@pytest.fixture(scope="module")
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Smoke]:
    """The paper that the test asks for, trained and scored."""
    paper = smoke.make(tmp_path_factory.mktemp(request.param), request.param)
    paper.train()
    yield paper
    smoke.clear(paper.root)


@pytest.mark.parametrize("trained", PAPERS, indirect=True)
def test_smoke(trained: Smoke) -> None:
    """Results of every arm and seed, and the numbers in tests/golden/<key>.json."""
    project, key = trained.project, trained.key
    results = results_of(trained.root, key)
    assert [path.name for path in sorted(results.iterdir())] == LEFT
    rows = (results / "runs.csv").read_text().splitlines()
    assert len(rows) == 1 + sum(len(project.resolve(key, arm)["seeds"]) for arm in project.arms(key))
    assert '"verdict": "not run"' in (results / "claims.json").read_text()
    found, recorded = golden.recorded(trained), golden.read(key)
    assert recorded, f"tests/golden/{key}.json is not there: python tests/golden.py {key} --write"
    assert golden.differences(found, recorded) == []


@pytest.mark.parametrize("trained", PAPERS, indirect=True)
def test_survival(trained: Smoke) -> None:
    """The first arm of each stage, killed twice; `python tests/survival.py` kills all of them, and more often."""
    tallies = [*survived(trained.project, trained.key, kills=2, seed=0, arms=1)]
    assert [(tally.name, tally.differs) for tally in tallies if tally.differs] == []
    trainable = [tally for tally in tallies if tally.rows > 1]
    assert trainable or not any(trained.updates.values()), "nothing was killed: train for 2 updates at smoke scale"
    assert [tally for tally in trainable if not tally.kills or not tally.resumed] == []


@pytest.mark.parametrize("trained", PAPERS, indirect=True)
def test_spread(trained: Smoke) -> None:
    """The same weights on both of two processes, gradients that are the mean of both's, one process's loss curve."""
    lines = spread.compared(trained, arms=1)
    assert [line.run.split("/")[1] for line in lines] == trained.project.pipeline.stages(trained.key)
    assert [line for line in lines if line.between_ranks > 0 or (line.gradients or 0) > 1e-6] == []
    assert any(line.gradients is not None for line in lines) == (trained.key not in NOT_DESCENDED)
    assert [line for line in lines if not line.run.startswith(NOISY) and line.rows > 1e-5] == []


def test_the_tables_of_this_file_name_papers() -> None:
    keys = {*papers()}
    assert {*NOT_DESCENDED, *(stage.split("/")[0] for stage in NOISY), *spread.KNOBS} <= keys
    assert {path.stem for path in golden.FOLDER.glob("*.json")} == keys, f"in {golden.FOLDER.relative_to(REPOSITORY)}"


def test_a_number_that_moved_is_told() -> None:
    """The comparison with the goldens can fail: in each kind of number, within its own tolerance alone."""
    recorded = {"pretrain": {"a": {"steps": 4, "updates": {"loss": [1.0, None]}, "weights": {"w": [10.0, 1.0]}}}}
    exceptions = {"pretrain/a/updates/loss/0": {"rtol": 0.1, "reason": "a test"}}
    recorded["processor"] = torch.backends.cpu.get_cpu_capability()

    def moved(path: tuple[str, ...], place: int | None, value: float | None) -> list[str]:
        tree = {"pretrain": {"a": {"steps": 4, "updates": {"loss": [1.0, None]}, "weights": {"w": [10.0, 1.0]}}}}
        block = tree["pretrain"]["a"]
        *above, last = path
        for name in above:
            block = block[name]
        if place is None:
            block[last] = value
        else:
            block[last][place] = value
        return golden.differences(tree, recorded)

    assert moved(("steps",), None, 4) == []
    assert len(moved(("steps",), None, 5)) == 1
    assert moved(("updates", "loss"), 0, 1.00009) == []
    assert moved(("updates", "loss"), 0, 1.0002) == ["pretrain/a/updates/loss/0: 1.0002, was 1.0 (rtol 0.0001)"]
    assert len(moved(("updates", "loss"), 1, 0.0)) == 1
    assert moved(("weights", "w"), 1, 1.0009) == []  # of a projection, a part of the norm
    assert len(moved(("weights", "w"), 1, 1.002)) == 1
    assert len(moved(("weights", "w"), 0, float("nan"))) == 1
    assert len(moved(("more",), None, 1.0)) == 1
    recorded["exceptions"] = exceptions
    assert moved(("updates", "loss"), 0, 1.05) == []
    assert len(moved(("updates", "loss"), 0, 1.2)) == 1
    del recorded["exceptions"]
    recorded["processor"] = "another"  # there only how long training is, and how it begins
    assert moved(("updates", "loss"), 0, 1.009) == []
    assert len(moved(("updates", "loss"), 0, 1.02)) == 1
    assert moved(("weights", "w"), 1, 1.002) == []
    assert len(moved(("steps",), None, 5)) == 1
    assert len(moved(("more",), None, 1.0)) == 1


def test_a_summary_tells_tensors_of_one_norm_apart() -> None:
    norm, projection = golden.summary(torch.tensor([[3.0, 4.0]]))
    assert norm == 5
    assert projection == pytest.approx(3 * 0.5403023 + 4 * -0.4161468, rel=1e-5)
    assert golden.summary(torch.tensor([4.0, 3.0])) != [norm, projection]
    assert golden.summary(torch.tensor([3.0, 4.0, float("inf")])) == [norm, projection, 1]


def test_a_kill_that_is_awaited_hits(tmp_path: Path) -> None:
    """On whatever machine: the run waits for it."""
    from survival import Kill, attempt

    paper = smoke.make(tmp_path / "project", "perceptron")
    run = smoke.first_run(paper)
    ended = attempt(run, tmp_path / "killed", Kill(2, "row", 0.0, 9, awaited=True))
    assert (ended.rows, ended.resumed) == (2, False)
    assert attempt(run, tmp_path / "killed").resumed
