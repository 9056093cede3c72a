"""`reprise try`: what a finished model draws, plays, fills in and says, against the model itself."""

from __future__ import annotations

import importlib
import io
import itertools
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from conftest import REPOSITORY
from finished import Finished
from layout import copy_yaml
from reprise import cli
from reprise.commands.find_model import _favours, favoured
from reprise.core.config.project import load
from reprise.core.run.integrity import sealed
from reprise.inference import bert, dqn, gan, lookup, memn2n, pictures
from reprise.inference import images as looking
from reprise.inference.kinds import Classifier, Unusable
from reprise.parts.data.store import open_images
from reprise.parts.text import WordPiece
from training import scored, trained

# Samples


def test_a_sheet_shows_what_the_generator_makes(finished: Finished, tmp_path: Path) -> None:
    out = tmp_path / "my.samples.png"
    assert finished("try", "gan", "--out", str(out)).splitlines()[-1] == str(out)
    assert [path.name for path in tmp_path.iterdir()] == ["my.samples.png"]
    task: Any = finished.task("gan", "pretrain", "non_saturating")
    z = task.fixed_noise(80, seed=0)
    expected = (task.generator(z).sigmoid() * 255).round().byte().reshape(80, 28, 28).numpy()
    with Image.open(out) as image:
        sheet = np.asarray(image.convert("L"))
    tiles = sheet[32 : 32 + 16 * 30 : 2, 16 : 16 + 20 * 30 : 2]  # twice as large, 30 pixels from one to the next
    for row, column in ((0, 0), (0, 9), (7, 3)):
        tile = tiles[30 * row : 30 * row + 28, 30 * column : 30 * column + 28]
        assert np.array_equal(tile, expected[10 * row + column])
    second = sheet[32 + 16 * 30 - 4 + 32 :: 2, 16 : 16 + 56 : 2][:28]
    assert np.array_equal(second, expected[0]), "the ways begin at the first z"


def test_another_draw_is_other_samples_and_the_same_draw_the_same(finished: Finished) -> None:
    task: Any = finished.task("gan", "pretrain", "minimax")
    first, second, again = (gan.samples(task, 4, draw) for draw in (0, 1, 1))
    assert not torch.equal(first, second)
    assert torch.equal(second, again)


def test_a_terminal_shows_two_pixels_a_character() -> None:
    text = pictures.half_blocks(np.array([[0, 255], [7, 255], [9, 1]], np.uint8))
    assert text.plain == "▀▀\n▀▀\n"
    said = [str(span.style) for span in text.spans]
    assert said[:2] == ["rgb(0,0,0) on rgb(7,7,7)", "rgb(255,255,255) on rgb(255,255,255)"]
    assert said[2] == "rgb(9,9,9) on rgb(0,0,0)", "an odd last row stands over black"


def test_in_a_terminal_samples_are_drawn_as_wide_as_fits(finished: Finished, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    printed = re.sub(r"\x1b\[[0-9;]*m", "", finished("try", "gan"))
    rows = [line for line in printed.splitlines() if "▀" in line]
    assert {line.count("▀") for line in rows} == {74}, "five of 14 columns, with one between"
    assert len(rows) == (4 * 15) // 2 + (3 * 15) // 2
    assert "20 samples of gan/pretrain/non_saturating/s0" in printed


def test_in_a_terminal_it_says_how_many_of_the_samples_it_draws(
    finished: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert "  40 of 100 samples shown; --out samples.png writes them all" in finished("try", "gan", "-n", "100")
    assert "are drawn" not in finished("try", "gan", "-n", "40")
    assert "are drawn" not in finished("try", "gan")


@pytest.mark.parametrize("terminal", [False, True])
def test_a_script_gets_samples_as_numbers(finished: Finished, monkeypatch: pytest.MonkeyPatch, terminal: bool) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal)
    said = json.loads(finished("try", "gan", "--json", "-n", "45"))
    task: Any = finished.task("gan", "pretrain", "non_saturating")
    assert said["model"] == "gan/pretrain/non_saturating/s0"
    assert np.array_equal(said["samples"], pictures.to_bytes(gan.samples(task, 45, 0)))


# Games


def test_a_game_scores_the_sum_of_its_rewards_and_is_filmed_whole(finished: Finished) -> None:
    task: Any = finished.task("dqn", "pretrain", "full")
    game = dqn.play(task, draw=3, frames=10_000, epsilon=0.3)
    games = dqn.open_games(task.config.game, 1, 1_000_003, task.config.evaluate.longest)
    games.start()
    screens, rewards, over = [games.picture(0)], [], []
    for action in game.actions:
        played = games.step([action])
        screens.append(games.picture(0))
        rewards.append(float(played.rewards[0]))
        over.append(bool(played.over[0]))
    assert game.rewards == rewards
    assert game.score == sum(rewards)
    assert over == [False] * (len(over) - 1) + [True]
    assert len(game.film) == len(game.actions) + 1
    height = len(screens[0])
    assert all(np.array_equal(one[:height], screen) for one, screen in zip(game.film[:-1], screens[:-1], strict=True))
    assert np.array_equal(game.film[-1], pictures.with_score(screens[-2], game.score)), (
        "not the next game's first screen"
    )


def test_without_random_actions_it_does_what_the_network_values_most(finished: Finished) -> None:
    task: Any = finished.task("dqn", "pretrain", "full")
    best = []
    task.q.register_forward_hook(lambda module, inputs, values: best.append(int(values.argmax())))
    game = dqn.play(task, epsilon=0.0)
    assert game.actions == best


def test_the_command_says_the_score_and_writes_the_film(finished: Finished, tmp_path: Path) -> None:
    out = tmp_path / "game.gif"
    said = json.loads(finished("try", "dqn", "--out", str(out), "--json"))
    game = dqn.play(finished.task("dqn", "pretrain", "full"))  # type: ignore[arg-type]
    assert said["score"] == game.score
    assert said["actions"] == len(game.actions)
    with Image.open(out) as film:
        assert film.size == (160, 210 + pictures.STRIP)
        assert film.n_frames > 1


# Sentences


def test_filled_words_are_the_likeliest_of_the_pretrained_model(finished: Finished) -> None:
    task: Any = finished.task("bert", "pretrain", "mlm")
    places = json.loads(finished("try", "bert", "the [MASK] was very [mask]", "--json", "-n", "4"))["masks"]
    words = WordPiece(task.vocabulary.pieces)
    encoded = [words.encode([text])[0].tolist() for text in ("the", "was very")]
    ids = torch.tensor([[words.cls, *encoded[0], words.mask, *encoded[1], words.mask, words.sep]])
    at = (ids == words.mask).nonzero()[:, 1][None]
    shares = task.model(ids, torch.zeros_like(ids), at)[0].softmax(-1)[:, : len(words)]
    assert len(places) == 2
    for place, share in zip(places, shares, strict=True):
        assert place[0]["word"] == words.pieces[int(share.argmax())]
        assert [one["word"] for one in place] == [words.pieces[i] for i in share.argsort(descending=True)[:4]]
        assert [one["probability"] for one in place] == pytest.approx(share.sort(descending=True).values[:4].tolist())


def test_a_sentence_is_what_each_finetuned_model_says(finished: Finished) -> None:
    task: Any = finished.task("bert", "finetune", "mlm")
    said = json.loads(finished("try", "bert", "the film was good", "--json"))["tasks"]
    words = WordPiece(task.vocabulary.pieces)
    ids = torch.tensor([[words.cls, *words.encode(["the film was good"])[0].tolist(), words.sep]])
    mask = torch.ones_like(ids, dtype=torch.bool)
    shares = task.models["sentiment"](ids, torch.zeros_like(ids), mask).softmax(-1)[0]
    assert said["sentiment"]["labels"] == [["negative", "positive"][int(shares.argmax())]]
    assert said["sentiment"]["probabilities"] == pytest.approx([float(shares.max())])
    tagging = next(name for name, one in task.tasks.items() if one.kind == "tagging")
    sub = task.tasks[tagging]
    outputs = task.models[tagging](ids, torch.zeros_like(ids), mask)[0]
    pieces = [words.encode([word])[0].tolist() for word in ["the", "film", "was", "good"]]
    ends = np.cumsum([len(one) for one in pieces])
    places = ends if sub.label_on == "last" else ends - [len(one) - 1 for one in pieces]
    assert said[tagging]["labels"] == [f"tag{i}" for i in outputs[places.tolist()].argmax(-1).tolist()]
    assert "pairs" not in said


def test_two_texts_are_a_pair(finished: Finished) -> None:
    task: Any = finished.task("bert", "finetune", "mlm")
    said = json.loads(finished("try", "bert", "the film", "a good story", "--json"))["tasks"]
    words = WordPiece(task.vocabulary.pieces)
    first, second = ([*words.encode([text])[0].tolist(), words.sep] for text in ("the film", "a good story"))
    ids = torch.tensor([[words.cls, *first, *second]])
    segments = torch.tensor([[0] * (1 + len(first)) + [1] * len(second)])
    shares = task.models["pairs"](ids, segments, torch.ones_like(ids, dtype=torch.bool)).softmax(-1)[0]
    assert list(said) == ["pairs"]
    assert said["pairs"]["probabilities"] == pytest.approx([float(shares.max())])
    assert said["pairs"]["labels"] == [["other", "same"][int(shares.argmax())]]


def test_lines_of_standard_input_are_sentences(finished: Finished, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("a film\n\na good [MASK]\n"))
    said = finished("try", "bert")
    assert said.count("sentiment: ") == 1
    assert said.count(" %  ") == 5
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert "no sentence given" in finished("try", "bert", status=2)


def test_a_left_to_right_model_is_asked_from_the_place_before(finished: Finished) -> None:
    task: Any = finished.task("bert", "pretrain", "mlm")
    task.settings = task.settings.model_copy(update={"objective": "left_to_right"})
    short, long = (bert.fill(task, text)[0] for text in ("the film [MASK]", "the film [MASK] was good"))
    assert [one.word for one in short] == [one.word for one in long]
    assert [one.probability for one in short] == pytest.approx([one.probability for one in long], rel=1e-4)


# Games against a person


def test_a_person_plays_against_the_network(finished: Finished, monkeypatch: pytest.MonkeyPatch) -> None:
    printed = finished("try", "alphago_zero", "b2", "undo", "c3", "resign")
    assert "You are X and begin" in printed
    assert printed.count("(X)") == 0, "after each move stands the answer"
    assert printed.rstrip().endswith("White wins by resignation")
    assert "'j9' is not a move: expected a point from a1 to c3" in finished("try", "alphago_zero", "j9", status=2)
    assert "b2 is not legal: there is a stone" in finished("try", "alphago_zero", "b2", "b2", status=2)
    assert "points in" in finished("try", "alphago_zero"), "where nobody types it plays itself"
    assert "Before " in finished("try", "alphago_zero", "b2", "TREE")
    lines = iter(["d4", "a1", ""])
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda _: next(lines))
    typed = finished("try", "alphago_zero")
    assert "'d4' is not a move" in typed, "typed in, a mistake ends nothing"
    assert "a1 to c3, pass, undo, tree or resign" in " ".join(typed.split())
    monkeypatch.undo()
    assert finished("try", "alphago", "b2", "resign").rstrip().endswith("White wins by resignation")


# Images

TEST_ERRORS = {
    "perceptron": ("digits", "test_error", 1),
    "svm_vs_net": ("cnn", None, 100),
    "layerwise_pretraining": ("machines", None, 100),
    "initialisation": ("relu_22_he", "test_error", 100),
    "activations": ("elu", "test_error", 100),
    "optimizers": ("adamw", None, 100),
    "regularisation": ("dropout", "test_error", 100),
    "normalisation": ("batch", "test_error", 100),
    "resnet": ("residual_20", "test_error", 100),
    "vgg": ("triple_3x3", "test_error", 100),
    "alexnet": ("augmentation", "test_error", 100),
    "highway": ("highway_50", "test_error", 100),
    "lottery_ticket": ("ticket", "last_test_error", 100),
    "lenet": ("lenet_1989", "test_error", 100),
    "double_descent": ("features", "last_test_error", 100),
    "backprop_mlp": ("digits_16", None, 100),
}


def test_every_paper_that_sorts_images_is_compared() -> None:
    assert TEST_ERRORS.keys() == {*lookup.by_kind()[Classifier]}


@pytest.mark.parametrize(
    ("key", "dataset"),
    [
        *((key, "digits") for key in TEST_ERRORS if key not in ("vgg", "alexnet")),
        *((key, "clothes") for key in ("vgg", "alexnet")),
        *((key, "objects") for key in ("regularisation", "lottery_ticket")),
    ],
)
def test_the_reader_makes_the_mistakes_that_the_papers_evaluation_counts(
    key: str, dataset: str, data: Path, objects: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the same images: what a paper makes of pixels before its network sees them is part of the reader."""
    arm, metric, whole = TEST_ERRORS[key]
    project = load(REPOSITORY, scale="smoke", papers=[key])
    paper: Any = importlib.import_module(f"reprise.experiments.{key}")
    tree, stage = project.resolve(key, arm), project.pipeline.evaluate[key].model
    if dataset == "objects":
        tree |= {"dataset": "objects"}
        whitening = torch.eye(3072).roll(1, 0) * 3  # in the place of 3,072 components, which take 9 s
        monkeypatch.setattr(paper, "zca", lambda images, _: (images.mean(0), whitening), raising=False)
    task = trained(paper, tree, objects if dataset == "objects" else data, every=10, stage=stage)
    config, models = paper.Config.model_validate(tree), lookup.models_of(key)
    assert isinstance(models, Classifier)
    reader = looking.reader(models, task, config)
    assert reader.dataset == dataset
    images, labels = looking.test_images(task, reader.dataset)
    count = getattr(config, "test", len(images))
    if key in ("initialisation", "activations"):
        count = config.evaluate.images
    with torch.no_grad():
        found = reader.network(looking.pixels(images[:count])).argmax(1).numpy()
    error = whole * float((found != labels[:count]).mean())
    with torch.no_grad():
        expected = of_evaluation(task, paper, config, metric, images, labels, count)
    assert error == pytest.approx(expected, abs=1e-4)
    assert 0 < error <= whole, "a network of few updates makes mistakes"


def of_evaluation(
    task: Any, paper: Any, config: Any, metric: str | None, images: Any, labels: Any, count: int
) -> float:
    """The test error as the paper itself counts it, where it does not return it by that name."""
    match task.run.experiment:
        case "optimizers":
            return task.score(task.best, torch.tensor(images)[:, None], torch.tensor(labels.astype(int)))[1]
        case "backprop_mlp":
            best = int(paper.objective(config.loss, task.nets(task.inputs), task.labels).argmin())
            pixels, digits = task.digits("test", count)
            return 100 * (1 - float(paper.correct(task.nets(pixels), digits)[best].mean()))
        case "svm_vs_net":
            metric = f"error_{max(config.sizes)}"
        case "layerwise_pretraining":
            metric = f"label_error_{max(config.finetune.labels)}"
    assert metric is not None
    return scored(task).metrics[metric]


@pytest.mark.parametrize(
    ("key", "arm", "metric"),
    [
        ("layerwise_pretraining", "very_deep", "test_squared_error"),
        ("layerwise_pretraining", "components", "test_squared_error"),
        ("regularisation", "autoencoder", "squared_error"),
    ],
)
def test_an_autoencoder_errs_as_in_evaluation(key: str, arm: str, metric: str, data: Path) -> None:
    project = load(REPOSITORY, scale="smoke", papers=[key])
    paper: Any = importlib.import_module(f"reprise.experiments.{key}")
    tree = project.resolve(key, arm)
    task = trained(paper, tree, data, every=10, stage=project.pipeline.evaluate[key].model)
    models = lookup.models_of(key)
    assert isinstance(models, Classifier)
    reader = looking.reader(models, task, paper.Config.model_validate(tree))
    assert reader.kind == "autoencoder"
    pixels = looking.pixels(looking.test_images(task, "digits")[0][: tree["test"]])
    with torch.no_grad():
        error = (reader.network(pixels) - pixels).square().sum((1, 2)).mean()
    assert float(error) == pytest.approx(scored(task).metrics[metric], rel=1e-4)


def test_answers_are_the_networks(finished: Finished) -> None:
    rows = json.loads(finished("try", "normalisation", "-n", "7", "--draw", "2", "--json"))["images"]
    task: Any = finished.task("normalisation", "pretrain", "batch", with_data=True)
    images, labels = open_images(task.run.data / "digits", "test")
    for row in rows:
        place = int(row["image"].split()[-1])
        shares = task.classifier(task.pixels(torch.tensor(images[place])[None, None])).softmax(1)[0]
        assert row["answer"] == str(int(shares.argmax()))
        assert row["probability"] == pytest.approx(float(shares.max()), abs=1e-5)
        assert row["label"] == str(labels[place])
        assert list(row["scores"].values()) == pytest.approx(shares.tolist(), abs=1e-5)
    assert len({row["image"] for row in rows}) == 7


def test_scores_that_are_no_probabilities_are_not_called_so(finished: Finished) -> None:
    rows = json.loads(finished("try", "svm_vs_net", "--json"))["images"]
    assert all("probability" not in row for row in rows)
    task: Any = finished.task("svm_vs_net", "pretrain", "svm", with_data=True)
    images = open_images(task.run.data / "digits", "test").images
    size = max(task.config.sizes)
    for row in rows:
        place = int(row["image"].split()[-1])
        expected = task.outputs(size, torch.tensor(images[place]).flatten()[None] / 255)[0]
        assert row["score"] == pytest.approx(float(expected.max()), abs=1e-4)


def test_an_autoencoder_gives_images_again(finished: Finished, tmp_path: Path) -> None:
    out = tmp_path / "again.png"
    rows = json.loads(finished("try", "regularisation", "--arm", "autoencoder", "-n", "3", "--out", str(out), "--json"))
    task: Any = finished.task("regularisation", "pretrain", "autoencoder", with_data=True)
    images = open_images(task.run.data / "digits", "test").images
    for row in rows["images"]:
        pixels = torch.tensor(images[int(row["image"].split()[-1])]).flatten()[None] / 255
        assert row["squared_error"] == pytest.approx(float((task.network(pixels) - pixels).square().sum()), rel=1e-4)
    with Image.open(out) as image:
        assert image.size[0] == 2 * (3 * 30 - 2) + 32


def drawn(path: Path, mode: str, paper: Any, ink: Any) -> Path:
    """A bar on a page of 90 × 60."""
    image = Image.new(mode, (90, 60), paper)
    image.paste(ink, (10, 5, 20, 45))
    image.save(path)
    return path


@pytest.mark.parametrize(
    ("mode", "paper", "ink", "said"),
    [
        ("L", 0, 255, 1),
        ("L", 255, 0, 2),
        ("RGB", (255, 255, 255), (0, 0, 0), 2),
        ("RGBA", (0, 0, 0, 0), (0, 0, 0, 255), 3),
        ("1", 1, 0, 2),
    ],
)
def test_a_picture_becomes_a_digit_as_mnist_made_them(
    tmp_path: Path, mode: str, paper: Any, ink: Any, said: int
) -> None:
    digit, done = pictures.read(drawn(tmp_path / "bar.png", mode, paper, ink), "digits")
    assert digit.shape == (28, 28)
    rows, columns = np.nonzero(digit)
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (20, 5), "10 × 40 pixels, scaled to fit 20 × 20"
    assert digit[digit > 0].min() == 255
    assert abs(rows.mean() - 13.5) <= 0.5
    assert abs(columns.mean() - 13.5) <= 0.5
    assert len(done) == said


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_phones_picture_is_turned_as_it_was_held(tmp_path: Path, orientation: int) -> None:
    page = np.full((120, 90), 255, np.uint8)
    page[20:100, 20:30] = 0
    page[90:100, 20:60] = 0  # an L
    upright = Image.fromarray(page)
    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    stored = upright.transpose(turns[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright.save(tmp_path / "upright.png")
    stored.save(tmp_path / "phone.png", exif=exif)
    expected, plain = pictures.read(tmp_path / "upright.png", "digits")
    found, done = pictures.read(tmp_path / "phone.png", "digits")
    assert np.array_equal(found, expected)
    assert done == (["rotated by its EXIF orientation"] if orientation > 1 else []) + plain


@pytest.mark.parametrize(("kind", "top"), [(np.uint16, 65535), (np.int32, 65535), (np.float32, 1), (np.float32, 255)])
@pytest.mark.parametrize("inverted", [False, True])
def test_more_than_eight_bits_of_grey_are_scaled_down(tmp_path: Path, kind: Any, top: int, inverted: bool) -> None:
    page = np.zeros((60, 90))
    page[5:45, 10:20] = 1
    page = (1 - page if inverted else page) * top
    Image.fromarray(page.astype(kind)).save(tmp_path / "deep.tif")
    Image.fromarray((page * (255 / top)).round().astype(np.uint8)).save(tmp_path / "plain.tif")
    for dataset in ("digits", "objects"):
        deep, done = pictures.read(tmp_path / "deep.tif", dataset)
        plain, said = pictures.read(tmp_path / "plain.tif", dataset)
        assert np.array_equal(deep, plain)
        assert done == ["grey levels scaled to 8 bits", *said]


def test_a_picture_of_a_digits_own_size_is_left_alone(tmp_path: Path, data: Path) -> None:
    image = np.array(open_images(data / "digits", "test").images[0])
    Image.fromarray(image).save(tmp_path / "a.png")
    Image.fromarray(255 - image).save(tmp_path / "b.png")
    plain, inverted = (pictures.read(tmp_path / name, "digits") for name in ("a.png", "b.png"))
    assert np.array_equal(plain[0], image)
    assert plain[1] == []
    assert np.array_equal(inverted[0], image)
    assert len(inverted[1]) == 1


def test_an_object_is_the_square_in_the_middle(tmp_path: Path) -> None:
    image = np.zeros((32, 64, 3), np.uint8)
    image[:, 16:48] = (10, 200, 30)
    Image.fromarray(image).save(tmp_path / "a.png")
    found, done = pictures.read(tmp_path / "a.png", "objects")
    assert np.array_equal(found, image[:, 16:48])
    assert done == ["cropped to the central square"]


def test_a_picture_of_nothing_is_refused(tmp_path: Path) -> None:
    Image.new("L", (90, 60), 255).save(tmp_path / "blank.png")
    with pytest.raises(Unusable, match="almost no contrast"):
        pictures.read(tmp_path / "blank.png", "digits")


# Stories

STORY = "Mary took the milk there. Mary went to the garden. Where is the milk?"


def test_a_story_is_answered_with_what_was_looked_at(finished: Finished) -> None:
    told = json.loads(finished("try", "memn2n", STORY, "--json"))
    task: Any = finished.task("memn2n", "pretrain", "hops_3")
    memory, question = (one[None] for one in memn2n.told(task, told["statements"], told["question"]))
    read = task.networks(memory, memn2n.ages(memory), question)
    assert [len(hop) for hop in told["attention"]] == [2, 2, 2]
    newest_first = torch.tensor(told["attention"]).flip(1)
    assert torch.allclose(newest_first, torch.stack([hop[int(task.best), 0, :2] for hop in read.attention]), atol=1e-6)
    shares = read.logits[int(task.best), 0].softmax(0)
    assert [share for _, share in told["answers"]] == pytest.approx(sorted(shares.tolist())[:-4:-1])
    printed = finished("try", "memn2n", STORY).splitlines()
    assert printed[-1].startswith("Where is the milk? " + told["answers"][0][0])
    assert printed[-2].endswith("  Mary went to the garden.")
    assert "Paris" in finished("try", "memn2n", "Mary went to Paris. Where is Mary?", status=2).title()
    assert "expected statements" in finished("try", "memn2n", "Where is Mary?", status=2)


# Beginnings


def test_a_beginning_is_continued_as_the_model_goes_on(finished: Finished) -> None:
    task: Any = finished.task("gpt", "pretrain", "full")
    found = json.loads(finished("try", "gpt", "The film", "--json", "-n", "2"))
    words = WordPiece(task.vocabulary.pieces)
    ids = torch.tensor([[words.cls, *words.encode(["the film"])[0].tolist()]])
    logits = task.model.logits(task.model(ids))[0, -1, : len(words)]
    logits[words.special] = -torch.inf
    assert found["text"] == "the film"
    assert found["likeliest"].startswith(words.pieces[int(logits.argmax())])
    assert len(found["drawn"]) == 2
    assert found["drawn"][0] != found["drawn"][1]
    assert found == json.loads(finished("try", "gpt", "the film", "--json", "-n", "2"))
    assert found["drawn"] != json.loads(finished("try", "gpt", "the film", "--json", "-n", "2", "--draw", "1"))["drawn"]
    printed = finished("try", "gpt", "the film").splitlines()
    assert "the film ..." in printed
    assert printed[printed.index("likeliest:") + 1].startswith(f"  ... {found['likeliest'].split()[0]}")
    assert "continues 30 at most" in finished("try", "gpt", "film " * 31, status=2)
    assert "no beginning was given" in finished("try", "gpt", " ", status=2)


# Translations


def test_a_sentence_is_translated_with_what_was_looked_at(finished: Finished) -> None:
    """At smoke scale nothing is learnt, so that only what is printed can be right."""
    found = json.loads(finished("try", "transformer", "The old friend visits my house.", "--json"))
    assert found["source"] == ["the", "old", "friend", "visits", "my", "house"]
    assert [len(row) for row in found["attention"]] == [6] * len(found["target"])
    assert found["text"].split() == found["target"]
    printed = finished("try", "transformer", "the old friend", "visits my house").splitlines()
    assert found["text"] in printed
    assert len(printed) - printed.index(found["text"]) == 2 + len(found["target"])
    assert "the word 'paris'" in finished("try", "transformer", "the Paris", status=2)
    assert "no sentence was given" in finished("try", "transformer", " ", status=2)


def test_a_network_without_attention_shows_its_translation_alone(finished: Finished) -> None:
    """And one with it as many weights as words."""
    said = "The old friend does not visit my house because a dog hides."
    found = json.loads(finished("try", "attention_nmt", said, "--json"))
    assert found["model"] == "attention_nmt/pretrain/search/s0"
    assert [len(row) for row in found["attention"]] == [12] * len(found["target"])
    found = json.loads(finished("try", "attention_nmt", said, "--arm", "encdec", "--json"))
    assert found["attention"] == []
    assert finished("try", "attention_nmt", said, "--arm", "encdec").splitlines()[-1] == found["text"]
    assert "the word 'paris'" in finished("try", "attention_nmt", "the Paris", status=2)


def test_a_sentence_in_one_vector_is_translated(finished: Finished) -> None:
    found = json.loads(finished("try", "seq2seq", "The old friend visits my house.", "--json"))
    assert found["model"] == "seq2seq/pretrain/reversed/s0"
    assert found["source"] == ["the", "old", "friend", "visits", "my", "house"]
    assert found["attention"] == []
    assert found["text"].split() == found["target"]
    assert "the word 'paris'" in finished("try", "seq2seq", "the Paris", status=2)


# Walks


def test_walks_of_both_models_are_scored_on_their_graph(finished: Finished) -> None:
    walked = json.loads(finished("try", "rlhf", "c", "--json", "-n", "6"))
    edges = finished.task("rlhf", "pretrain", "ppo").maze.edges
    assert {name: len(replies) for name, replies in walked["replies"].items()} == {"supervised": 6, "reinforced": 6}
    for reply in [one for replies in walked["replies"].values() for one in replies]:
        nodes = [ord(letter) - ord("a") if letter != "?" else 21 for letter in reply["nodes"]]
        assert nodes[0] == 2
        assert reply["fault"] != all(edges[a, b] for a, b in itertools.pairwise(nodes))
    shortest = [ord(letter) - ord("a") for letter in walked["shortest"]]
    assert shortest[-1] == 0
    assert all(edges[a, b] for a, b in itertools.pairwise(shortest))
    assert f"a shortest walk from c to the goal is {walked['shortest']}" in finished("try", "rlhf", "c").splitlines()
    assert "'a' is not a start but the goal: expected a letter from b to u" in finished("try", "rlhf", "a", status=2)


# Which kind

PAPERS = list(load(REPOSITORY, papers=()).papers)


@pytest.mark.parametrize("key", PAPERS)
def test_a_papers_file_is_of_the_kind_that_is_read_off_it(key: str) -> None:
    assert type(lookup.models_of(key)) is lookup.kind_of(key)


def test_no_list_of_papers_stands_beside_their_files() -> None:
    """A new paper needs at most one file: what commands/ and inference/ say to all names none."""
    quoted = re.compile(rf"""["'](?:{"|".join(PAPERS)})["']""")
    package = REPOSITORY / "src" / "reprise"
    files = [*(package / "commands").glob("*.py"), *(package / "inference").glob("*.py")]
    shared = [file for file in files if file.parent.name == "commands" or file.stem not in PAPERS]
    assert [f"{file.name}: {word}" for file in shared for word in quoted.findall(file.read_text())] == []
    imports = re.compile(rf"reprise\.(?:experiments|inference)(?:\.| import )(?:{'|'.join(PAPERS)})\b")
    assert [file.name for file in shared if imports.search(file.read_text())] == []


def test_help_says_what_there_is_to_try() -> None:
    printed = " ".join(CliRunner().invoke(cli.app, ["try", "--help"]).stdout.split())
    for kind, keys in lookup.by_kind().items():
        assert f"{kind.trying}: {', '.join(keys)}" in printed


@pytest.mark.parametrize("words", ["try gan", "try normalisation", "export gan", "try bert 'a film'"])
def test_a_model_that_is_not_there_is_told_of_without_torch(words: str, tmp_path: Path) -> None:
    copy_yaml(tmp_path)
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "reprise", *shlex.split(words)],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "reprise.commands.find_model" in imported
    assert not imported & {"torch", "numpy", "PIL", "pytorch_lightning", "wandb"}
    assert done.returncode == 2
    assert "no trained model of" in done.stderr


def test_a_terminal_that_is_not_there_is_told_of_before_the_model_is_loaded(
    finished: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise AssertionError("loaded")

    monkeypatch.setattr("reprise.inference.models.load", refused)
    assert "no terminal to draw in" in finished("try", "gan", status=2)


# Which model


PROPOSED = {
    "dqn": "full",
    "gan": "non_saturating",
    "highway": "highway_50",
    "initialisation": "tanh_normalized",
    "layerwise_pretraining": "machines",
    "normalisation": "conv_group",
    "resnet": "residual_44",  # and not plain_8, over which its claims place every deep plain network
}


def test_the_arm_is_the_one_that_yaml_names_or_that_most_claims_are_for() -> None:
    """A difference is for the better side by the metric's direction; a trend for its better end."""
    project = load(REPOSITORY, papers=())
    found = {key: favoured(paper, project.arms(key), "laptop")[0] for key, paper in project.papers.items()}
    assert {key: found[key] for key in PROPOSED} == PROPOSED
    paper = project.papers["perceptron"]
    assert favoured(paper, project.arms("perceptron"), "laptop") == (
        "association_1024",  # and not `unit`, of which it is claimed that it cannot learn XOR
        "arm association_1024, which the paper favours; --arm picks another",
    )
    assert "the paper favours" in favoured(paper, ["starts"], "laptop")[1]
    assert favoured(paper, ["hidden_2", "hidden_8", "hidden_32", "digits"], "laptop")[0] == "hidden_32"
    assert favoured(paper, ["digits_logistic", "stimuli_500"], "laptop") == (
        "digits_logistic",
        "arm digits_logistic, the first one; --arm picks another",
    )
    paper = project.papers["resnet"]
    assert favoured(paper, project.arms("resnet"), "smoke") == (
        "residual_44",
        "arm residual_44, which the paper proposes; --arm picks another",
    )
    assert "the paper favours" in favoured(paper, ["plain_8", "plain_44"], "laptop")[1], "where it was not trained"


@pytest.mark.parametrize("key", sorted(path.stem for path in (REPOSITORY / "papers").glob("*.yaml")))
def test_the_arm_tried_is_no_control(key: str) -> None:
    """It wins more of the paper's comparisons than it loses, and is in the headline's favour or named for it."""
    project = load(REPOSITORY, papers=[key])
    paper = project.papers[key]
    arm = favoured(paper, project.arms(key), "laptop")[0]
    claims = {name: claim for name, claim in paper.claims.items() if "laptop" in claim.scales}
    won = [name for name, claim in claims.items() if arm in _favours(paper, name, claim)]
    lost = [
        name
        for name, claim in claims.items()
        if claim.kind == "difference" and arm in claim.arms_named and {*_favours(paper, name, claim)} - {arm}
    ]
    assert len(won) > len(lost), (won, lost)
    if paper.page and claims[paper.page.headline].kind == "contrast":  # which is for as many arms as it is against
        assert paper.page.proposal in claims[paper.page.headline].arms_named


def test_there_is_something_to_try_of_each_paper_or_a_word_why_not(finished: Finished) -> None:
    for key in finished.project.papers:
        if not lookup.kind_of(key).trying:
            said = finished("try", key, status=2)
            assert f"nothing to try for {key}; `reprise try --help` lists the papers" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("try gna", "did you mean gan"),
        ("try gan --arm minmax", "did you mean minimax"),
        ("try gan --arm vae", "arm vae of gan is not trained; `dvc repro pretrain@gan` trains it"),
        ("try gan --seed 7", "no trained seed of gan's arm non_saturating is called '7'; there are: 0"),
        ("try gan", "no terminal to draw in; --out"),
        ("try gan --out samples.jpg", "ends in .png"),
        ("try gan --out nowhere/samples.png", "there is no folder nowhere"),
        ("try gan hello", "takes no input"),
        ("try dqn --out game.mp4", "ends in .gif"),
        (
            "try initialisation",
            "no trained model of initialisation is in models/smoke/initialisation/pretrain; `dvc repro ",
        ),
        ("try normalisation missing.png", "there is no such file"),
        ("try normalisation params.yaml", "is not a readable picture"),
        ("try bert 'a' 'b' 'c'", "3 texts"),
        ("try bert ' '", "the text is empty"),
        ("try bert 'the [MASK]' 'film'", "works with one text"),
        ("export gan --format onx", "did you mean onnx"),
        ("export gan --stage finetune", "no stage of gan is called 'finetune'"),
    ],
)
def test_a_mistake_is_said_in_one_line(finished: Finished, words: str, said: str) -> None:
    before = sorted(finished.root.iterdir())
    printed = finished(*shlex.split(words), status=2)
    assert said in printed
    assert len(printed.splitlines()) == 1
    assert sorted(finished.root.iterdir()) == before


def test_a_text_too_long_is_refused(finished: Finished) -> None:
    assert "at most" in finished("try", "bert", "film " * 200, status=2)
    task: Any = finished.task("bert", "pretrain", "mlm")
    longest = task.config.model.positions
    assert len(bert.fill(task, "[MASK]" * (longest - 2))) == longest - 2
    with pytest.raises(Unusable, match=f"has {longest - 1} WordPieces; this model reads {longest - 2} at most"):
        bert.fill(task, "[MASK]" * (longest - 1))


def test_a_model_of_other_knobs_is_used_with_its_own(finished: Finished, tmp_path: Path) -> None:
    params = finished.root / "params.yaml"
    text = params.read_text()
    try:
        params.write_text(text.replace("\nscale: smoke", "\nscale: laptop"))
        out = str(tmp_path / "a.png")
        assert "trained at scale smoke; params.yaml now says laptop" in finished("try", "gan", "--out", out)
    finally:
        params.write_text(text)


def test_models_alone_are_enough_to_draw_and_not_to_sort_images(finished: Finished, tmp_path: Path) -> None:
    """As after `dvc pull models/…` in a fresh clone."""
    data = finished.root / "data"
    data.rename(finished.root / "elsewhere")
    try:
        finished("try", "gan", "-n", "4", "--out", str(tmp_path / "a.png"))
        said = finished("try", "normalisation", status=2)
        assert said.startswith("data/prepared/small_images is missing")
        assert "`dvc repro prepare@small_images` prepares it" in said
    finally:
        (finished.root / "elsewhere").rename(data)


def test_a_run_that_diverged_has_no_weights(finished: Finished) -> None:
    model = finished.model("gan", "pretrain", "minimax")
    record = model.with_name("seed1.run.json")
    whole = json.loads(model.with_suffix(".run.json").read_text())
    try:
        files = {name: digest for name, digest in whole["files"].items() if name == "history.csv"}
        told = {"name": "gan/pretrain/minimax/s1", "diverged": "loss became nan", "files": files}
        record.write_text(json.dumps(sealed(whole | told)))
        said = finished("try", "gan", "--arm", "minimax", "--seed", "1", "--out", "a.png", status=2)
        assert said.strip() == "gan/pretrain/minimax/s1 has no weights: loss became nan"
    finally:
        record.unlink()


def test_knobs_that_the_code_does_not_know_are_named(finished: Finished) -> None:
    record = finished.model("gan", "pretrain", "minimax").with_suffix(".run.json")
    text = record.read_text()
    try:
        whole = json.loads(text)
        record.write_text(json.dumps(sealed(whole | {"config": whole["config"] | {"pieces": 3}})))
        said = finished("try", "gan", "--arm", "minimax", "--out", "a.png", status=1)
        assert "its knob pieces" in said
        assert "`dvc repro pretrain@gan`" in said
    finally:
        record.write_text(text)


# The page


def test_the_commands_of_the_page(finished: Finished) -> None:
    """docs/using.md, every command that names this test; DQN's random arm has no weights to be trained."""
    page = (REPOSITORY / "docs" / "using.md").read_text()
    marked = "<!-- run by tests/test_try.py::test_the_commands_of_the_page -->\n```console\n"
    _, *blocks = page.split(marked)
    commands = [line[2:] for block in blocks for line in block.partition("```")[0].splitlines() if line[:2] == "$ "]
    assert len(commands) >= len(blocks) >= 6
    digit = Image.fromarray(np.array(open_images(finished.root / "data/prepared/mnist/digits", "test").images[0]))
    digit.save(finished.root / "digit.png")
    for command in commands:
        program, *words = shlex.split(command)
        assert program == "reprise"
        finished(*words)
    for name in ("samples.png", "game.gif", "answers.png", "digit.png"):
        (finished.root / name).unlink()
    for name in ("exports/gan-non_saturating-s0/generator.onnx", "shared/minimax/generator.pt2"):
        assert (finished.root / name).stat().st_size > 1000
