"""Layer-wise pretraining: energies by hand and by enumeration, parity with scikit-learn, golden losses, learning."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_model
from scipy.optimize import minimize, rosen, rosen_der
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import LeaveOneOut, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from torch import nn

from reprise.experiments import layerwise_pretraining as paper
from reprise.parts.vocabulary import NormalInit
from training import trained

SGD = {"kind": "sgd", "lr": 0.002, "momentum": 0.9}
TINY: dict[str, Any] = {
    "seeds": [0],
    "model": {"kind": "autoencoder", "hidden": [40, 20], "code": 4, "init": {"kind": "normal", "std": 0.1}},
    "images": 1000,
    "test": 200,
    "pretrain": {
        "duration": "4step",
        "batch_size": 50,
        "optimizer": {"kind": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 0.0002},
        "code_lr": 0.001,
        "first_momentum": 0.5,
        "first": "2step",
    },
    "finetune": {
        "autoencoder": {"duration": "6step", "batch_size": 50, "optimizer": SGD},
        "classifier": {"duration": "4step", "batch_size": 20, "optimizer": {"kind": "sgd", "lr": 0.1}},
        "labels": [50, 400],
    },
}
PCA_TREE = TINY | {"model": {"kind": "pca", "code": 4}}
INIT = NormalInit(kind="normal", std=0.5)


def changed(tree: dict[str, Any], pretrain: str, autoencoder: str, classifier: str) -> dict[str, Any]:
    """`tree` with other durations."""
    finetune = tree["finetune"]
    return tree | {
        "pretrain": tree["pretrain"] | {"duration": pretrain},
        "finetune": finetune
        | {
            "autoencoder": finetune["autoencoder"] | {"duration": autoencoder},
            "classifier": finetune["classifier"] | {"duration": classifier},
        },
    }


# Equations


def machine_with_weights(linear: bool) -> paper.Machine:
    torch.manual_seed(0)
    machine = paper.Machine(3, 2, linear, INIT)
    nn.init.normal_(machine.up.bias)
    nn.init.normal_(machine.visible_bias)
    return machine


def test_free_energy_sums_equation_1_over_hidden_states() -> None:
    machine = machine_with_weights(linear=False)
    for visible in itertools.product([0.0, 1.0], repeat=3):
        v, total = torch.tensor(visible), 0.0
        for hidden in itertools.product([0.0, 1.0], repeat=2):
            h = torch.tensor(hidden)
            energy = -v @ machine.visible_bias - h @ machine.up.bias - h @ machine.up.weight @ v
            total += math.exp(-energy.item())
        assert machine.free_energy(v[None]).item() == pytest.approx(-math.log(total), rel=1e-4, abs=1e-5)


def test_free_energy_integrates_over_linear_hidden_units() -> None:
    """One hidden unit with noise of variance 1: the integral of exp(-E) over it, less that of the noise alone."""
    torch.manual_seed(0)
    machine = paper.Machine(3, 1, True, INIT)
    v = torch.tensor([1.0, 0.0, 1.0])
    h = torch.linspace(-12, 12, 20_001, dtype=torch.float64)
    total = machine.up(v).double()
    integral = torch.trapezoid((-0.5 * h.square() + h * total).exp(), h) / math.sqrt(2 * math.pi)
    assert machine.free_energy(v[None]).item() == pytest.approx(-integral.log().item(), rel=1e-4)


@pytest.mark.parametrize("linear", [False, True])
def test_slope_is_equation_2(linear: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = machine_with_weights(linear)
    data, recon = torch.rand(5, 3), torch.rand(5, 3)
    monkeypatch.setattr(machine, "reconstruct", lambda visible: recon)
    loss, error = paper.contrastive_divergence(machine, data)
    loss.backward()
    hidden, hidden_recon = machine.hidden(data), machine.hidden(recon)
    expected = -(hidden.T @ data - hidden_recon.T @ recon) / 5
    torch.testing.assert_close(machine.up.weight.grad, expected.detach())
    torch.testing.assert_close(machine.up.bias.grad, -(hidden - hidden_recon).mean(0).detach())
    torch.testing.assert_close(machine.visible_bias.grad, -(data - recon).mean(0))
    assert error.item() == pytest.approx((data - recon).square().sum().item() / 5, rel=1e-5)


def test_machines_unroll_into_their_own_passes() -> None:
    torch.manual_seed(0)
    config = paper.Config(**TINY)
    assert isinstance(config.model, paper.Stack)
    stack = paper.listed(paper.machines(config.model))
    for machine in stack:
        nn.init.normal_(machine.up.bias)
        nn.init.normal_(machine.visible_bias)
    images = torch.rand(6, 784)
    up = [images]
    for machine in stack:
        up.append(machine.hidden(up[-1]))
    down = up[-1]
    for machine in reversed(stack):
        down = machine.visible(down)
    autoencoder = paper.Autoencoder(config.model).unroll_(stack)
    torch.testing.assert_close(autoencoder.encoder(images), up[-1])
    torch.testing.assert_close(autoencoder(images).sigmoid(), down)
    classifier = paper.Classifier(config.model).unroll_(stack)
    torch.testing.assert_close(classifier.body(images), up[-2])


def test_losses_by_hand() -> None:
    images, logits = torch.zeros(2, 784), torch.zeros(2, 784)
    assert paper.reconstruction_loss(logits, images).item() == pytest.approx(784 * math.log(2), rel=1e-5)
    assert paper.squared_error(logits.sigmoid(), images) == pytest.approx(784 / 4)


# Conjugate gradients


def test_lowest_of_a_cubic_by_hand() -> None:
    """t³ - 3t has its minimum at 1, and 3t - t³ at -1; a straight line has none."""
    left, right = paper.Point(0, 0, -3), paper.Point(2, 2, 9)
    assert paper.lowest_of_cubic(left, right) == pytest.approx(1)
    assert paper.lowest_of_cubic(paper.Point(-2, 2, -9), paper.Point(0, 0, 3)) == pytest.approx(-1)
    assert math.isnan(paper.lowest_of_cubic(paper.Point(0, 0, -1), paper.Point(1, -1, -1)))
    assert paper.between(left, right) == pytest.approx(1)
    assert paper.between(left, paper.Point(2, math.inf, math.nan)) == 1  # the middle
    assert paper.beyond(paper.Point(0, 0, -1), paper.Point(1, -1, -1)) == 3


class Valley(nn.Module):
    """Rosenbrock's function of three numbers, lowest where all are 1."""

    def __init__(self) -> None:
        super().__init__()
        self.x = nn.Parameter(torch.tensor([-1.0, 0.0, 1.5], dtype=torch.float64))
        self.asked = 0

    def loss(self) -> torch.Tensor:
        self.asked += 1
        x = self.x
        loss = (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()
        loss.backward()
        return loss


def test_line_searches_find_the_bottom_of_a_valley_as_scipy_does() -> None:
    peer = minimize(rosen, [-1.0, 0.0, 1.5], jac=rosen_der, method="CG")
    valley = Valley()
    for _ in range(6):
        paper.LineSearches(valley, searches=10).step(valley.loss)
    np.testing.assert_allclose(valley.x.detach(), peer.x, atol=1e-4)
    assert valley.asked < 2 * peer.nfev


def test_a_line_search_ends_by_wolfes_conditions() -> None:
    valley = Valley()
    search = paper.LineSearches(valley, searches=1)
    value, gradient = search.evaluate(valley.x.detach().clone(), valley.loss)
    start, direction = valley.x.detach().clone(), -gradient
    slope = -float(gradient @ gradient)
    found, holds = search.search(paper.Point(0, float(value), slope, gradient), start, direction, 1.0, valley.loss)
    assert holds
    assert found.value <= float(value) + 0.05 * found.step * slope
    assert abs(found.slope) <= -0.1 * slope


def test_conjugate_gradients_fit_a_batch_better_than_as_many_steps(data: Path) -> None:
    finetune = TINY["finetune"]
    searched = {"duration": "6step", "batch_size": 50, "optimizer": {"kind": "conjugate_gradients", "searches": 3}}
    tree = TINY | {"finetune": finetune | {"autoencoder": searched}}
    losses = [row["loss"] for row in trained(paper, tree, data, stage="finetune").history if "loss" in row]
    assert losses[0] == pytest.approx(float(FINETUNING.split()[0]), rel=1e-4)
    assert losses[-1] < 0.6 * float(FINETUNING.split()[-1])


def test_logistic_components_have_no_hidden_layer_and_no_classifier(data: Path) -> None:
    model = TINY["model"] | {"hidden": []}
    with pytest.raises(ValueError, match="labels"):
        paper.Config.model_validate(TINY | {"model": model})
    tree = TINY | {"model": model, "finetune": TINY["finetune"] | {"labels": []}}
    nets = paper.networks(paper.Config.model_validate(tree))
    assert [tuple(layer.weight.shape) for layer in paper.linear_layers(nets["autoencoder"])] == [(4, 784), (784, 4)]


# Parity


def test_components_are_scikit_learn_s() -> None:
    torch.manual_seed(0)
    images = torch.rand(300, 784) @ torch.diag(torch.linspace(0.1, 2, 784))
    components = paper.PrincipalComponents(5)
    components.fit(images)
    peer = PCA(5, svd_solver="full").fit(images.numpy())
    expected = peer.inverse_transform(peer.transform(images.numpy()))
    np.testing.assert_allclose(components(images), expected, atol=2e-3)


def test_neighbour_error_is_scikit_learn_s() -> None:
    x, labels = load_digits(return_X_y=True)
    codes = x[:150, 20:24] + np.random.default_rng(0).normal(0, 0.01, (150, 4))
    scores = cross_val_score(KNeighborsClassifier(5), codes, labels[:150], cv=LeaveOneOut())
    found = paper.neighbour_error(torch.tensor(codes), torch.tensor(labels[:150]).long())
    assert found == pytest.approx(100 * (1 - scores.mean()))


# Golden and learning


PRETRAINING = (
    "159.908493 104.536797 65.354881 65.091866 8.985575 6.045689 1.986056 0.392410 4.667413 4.647189 4.561620 4.620967"
)
FINETUNING = "552.364624 549.354309 544.256592 537.236206 528.711426 519.219482"


def test_ten_steps(data: Path) -> None:
    pretraining = trained(paper, TINY, data).history
    found = [next(value for name, value in row.items() if name != "step") for row in pretraining]
    assert found == pytest.approx([float(error) for error in PRETRAINING.split()], rel=1e-4)
    rows = trained(paper, TINY, data, stage="finetune").history
    assert [row["loss"] for row in rows if "loss" in row] == pytest.approx(
        [float(loss) for loss in FINETUNING.split()], rel=1e-4
    )


def test_machines_help_the_autoencoder_to_leave_the_mean_image(data: Path, tmp_path: Path) -> None:
    tree = changed(TINY, "400step", "150step", "100step")
    stack = trained(paper, tree, data, every=50)
    errors = [row["machine_1_error"] for row in stack.history if "machine_1_error" in row]
    assert errors[-1] < 0.6 * errors[0]
    save_model(stack, str(tmp_path / "stack.safetensors"))
    helped = trained(paper, tree, data, stage="finetune", init=tmp_path / "stack.safetensors", every=50)
    alone = trained(paper, changed(TINY, "0step", "150step", "100step"), data, stage="finetune", every=50)
    with torch.inference_mode():
        with_machines, without = helped.evaluate(), alone.evaluate()
    assert with_machines.metrics["explained"] > without.metrics["explained"] + 0.2
    assert with_machines.metrics["label_error_400"] < 50
    assert set(with_machines.metrics) == {
        "test_squared_error", "train_squared_error", "explained", "code_error",
        "label_error_50", "label_error_400", "few_labels_cost",
    }  # fmt: skip
    assert set(with_machines.pictures) == {"reconstructions", "codes", "filters"}
    assert np.asarray(with_machines.pictures["reconstructions"]).shape == (58, 298)
    assert all(np.asarray(picture).std() > 10 for picture in with_machines.pictures.values())


def test_classifiers_alone_have_no_numbers_of_an_autoencoder(data: Path) -> None:
    task = trained(paper, changed(TINY, "0step", "0step", "4step"), data, stage="finetune")
    with torch.inference_mode():
        evaluation = task.evaluate()
    assert set(evaluation.metrics) == {"label_error_50", "label_error_400", "few_labels_cost"}
    assert set(evaluation.pictures) == {"filters"}


def test_components_are_fitted_and_scored(data: Path) -> None:
    nothing = trained(paper, PCA_TREE, data)
    assert nothing.total_steps == 0
    task = trained(paper, PCA_TREE, data, stage="finetune")
    with torch.inference_mode():
        metrics = task.evaluate().metrics
    assert metrics["train_squared_error"] == pytest.approx(task.history[0]["squared_error"], rel=1e-4)
    assert 0.2 < metrics["explained"] < 0.8
    assert metrics["code_error"] < 60


def test_more_labels_than_images_are_refused(data: Path) -> None:
    with pytest.raises(ValueError, match="expected at most 300"):
        trained(paper, TINY | {"images": 300}, data, stage="finetune")


def test_labelled_images_are_nested(data: Path) -> None:
    task = trained(paper, changed(TINY, "4step", "0step", "1ep"), data, stage="finetune")
    assert isinstance(task, paper.FinetuningTask)
    assert task.in_turn.lengths == [0, 2, 20]
    assert task.in_turn.at(1) == (1, 1)
    assert task.samplers[1].indices(0).max() < 50


def test_momentum_and_rates_of_the_machines(data: Path) -> None:
    task = trained(paper, TINY, data)
    groups = [optimizer.param_groups[0] for optimizer in task.raw_optimizers]
    assert [group["lr"] for group in groups] == [0.1, 0.1, 0.1, 0.1, 0.001, 0.001]
    assert [group["weight_decay"] for group in groups] == [0.0002, 0.0] * 3
    assert [group["momentum"] for group in groups] == [0.9] * 6
