"""results/<experiment>/: a round trip, the same bytes every time, and DVC's reading of it."""

from __future__ import annotations

import csv
import json
import math
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import made_up
from reprise.commands import listing
from reprise.core.config import catalogue
from reprise.core.config.paper import Presentation
from reprise.core.verdicts import listings, multiplicity, results, results_writer, rulings
from reprise.core.verdicts.verdict import signed

ROOT = Path(__file__).parents[1]


def files(folder: Path) -> dict[str, bytes]:
    """Everything under `folder`."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_round_trip(tmp_path: Path):
    verdicts = made_up.write(tmp_path)
    found = results.read(tmp_path / "results" / "laptop" / "gan")
    assert found.verdicts == verdicts
    assert list(found.verdicts) == list(made_up.PAPER.claims)
    assert found.card["scale"] == "laptop"
    assert found.card["arms"] == list(made_up.ARMS)
    assert found.card["axes"] == {"pretrain": "step"}
    assert found.curves.keys() == {"pretrain_generator_loss", "pretrain_gradient_norm", "pretrain_validation"}
    assert len(found.pictures) == 10 * len(made_up.ARMS)
    enough_seeds = set(rulings.COLOURS) - {rulings.EARLIER}
    assert {verdict.verdict for verdict in verdicts.values()} == enough_seeds


def test_a_picture_that_arms_share_is_kept_once_for_the_arm_that_the_page_shows_first(tmp_path: Path):
    for name, content in (("same", b"all"), ("minimax", b"one"), ("non_saturating", b"two")):
        (tmp_path / f"{name}.gif").write_bytes(content)
    runs = {("minimax", 0): {"modes": 10.0}, ("non_saturating", 0): {"modes": 9.0}}
    pictures = {
        (arm, 0): {"film": tmp_path / "same.gif", "samples": tmp_path / f"{arm}.gif"}
        for arm in ("minimax", "non_saturating")
    }
    hero = {"picture": "film", "arm": "non_saturating", "caption": "A film."}
    page = {"idea": "It mattered.", "headline": next(iter(made_up.PAPER.claims)), "hero": hero}
    shown = made_up.PAPER.model_copy(update={"page": Presentation.model_validate(page)})
    for paper, kept in ((made_up.PAPER, "minimax/film.gif"), (shown, "non_saturating/film.gif")):
        results_writer.write(tmp_path / "gan", paper, "smoke", runs, pictures=pictures)
        listed = [entry["file"] for entry in json.loads((tmp_path / "gan" / "pictures" / "index.json").read_text())]
        assert sorted(listed) == sorted([kept, "minimax/samples.gif", "non_saturating/samples.gif"])
        assert set(listed) == files(tmp_path / "gan" / "pictures").keys() - {"index.json"}


def test_arms_that_are_kept_come_to_what_all_arms_do_at_once(tmp_path: Path):
    failures = {("non_saturating", 2): "loss is NaN"}
    configs = {arm: {"arm": arm} for arm in made_up.ARMS}
    made_up.write(tmp_path, failures=failures, configs=configs, cores=2)
    at_once = tmp_path / "results" / "laptop" / "gan"
    runs, card = results.read_runs(at_once), results.read(at_once).card
    pretrained = tmp_path / "models" / "laptop" / "gan" / "pretrain"
    seeds = [(arm, seed) for arm in made_up.ARMS for seed in made_up.SEEDS]
    fingerprints = {(arm, seed): card["fingerprints"][f"{arm}/s{seed}"] for arm, seed in seeds}

    def write(arms: list[str], kept: results_writer.Kept | None) -> None:
        mine = [(arm, seed) for arm, seed in seeds if arm in arms]
        known = {*arms, *({arm for arm, _ in kept.runs} if kept else ())}
        results_writer.write(
            tmp_path / "gan",
            made_up.PAPER,
            "laptop",
            {key: runs[key] for key in mine if key in runs},
            {key: why for key, why in failures.items() if key in mine},
            {("pretrain", *key): pretrained / key[0] / f"seed{key[1]}.history.csv" for key in mine},
            {
                key: {p.stem: p for p in (pretrained / key[0] / f"seed{key[1]}").glob("*.*")}
                for key in mine
                if key in runs
            },
            {key: fingerprint for key, fingerprint in fingerprints.items() if key[0] in known},
            {("pretrain", *key): {"seconds": 30.0, "cores": 2} for key in mine},
            {arm: tree for arm, tree in configs.items() if arm in known},
            kept=kept,
        )

    write(["non_saturating"], None)
    write(["minimax", "gaussian_mixture"], results_writer.keep(tmp_path / "gan", {"non_saturating"}))
    assert files(tmp_path / "gan") == files(at_once)


def test_a_chart_is_kept_with_a_palette_and_a_photograph_as_it_is(tmp_path: Path):
    rng = np.random.default_rng(0)
    photograph = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    few = rng.integers(0, 256, (400, 3), dtype=np.uint8)
    chart = few[np.minimum(rng.geometric(0.02, (200, 200)), len(few)) - 1]  # a few colours are most of it
    for name, pixels in (("chart", chart), ("photograph", photograph)):
        Image.fromarray(pixels).save(tmp_path / f"{name}.png", optimize=True)
    pictures = {("minimax", 0): {name: tmp_path / f"{name}.png" for name in ("chart", "photograph")}}
    results_writer.write(tmp_path / "gan", made_up.PAPER, "smoke", {("minimax", 0): {"modes": 10.0}}, pictures=pictures)
    kept = tmp_path / "gan" / "pictures" / "minimax"
    assert (kept / "photograph.png").read_bytes() == (tmp_path / "photograph.png").read_bytes()
    assert (kept / "chart.png").stat().st_size < (tmp_path / "chart.png").stat().st_size
    with Image.open(kept / "chart.png") as image:
        assert image.mode == "P"
        difference = np.abs(np.asarray(image.convert("RGB"), dtype=int) - chart)
    assert np.median(difference) == 0
    assert difference.mean() < 8


def test_costs_as_they_were_recorded(tmp_path: Path):
    records = {
        ("finetune", "minimax", 0): {"seconds": 2.5, "steps": 9},
        ("pretrain", "minimax", 0): {"seconds": 71.25, "cores": 2, "device": "AMD EPYC"},
    }
    results_writer.write(tmp_path / "gan", made_up.PAPER, "smoke", {("minimax", 0): {"modes": 10.0}}, records=records)
    expected = [
        results.RunCost("pretrain", "minimax", 0, 71.25, 2, "AMD EPYC"),
        results.RunCost("finetune", "minimax", 0, 2.5, None, None),
    ]
    assert results.read(tmp_path / "gan").costs == expected
    file = tmp_path / "gan" / "cost.csv"  # as earlier versions wrote it, with the energy that a run used
    file.write_text(
        "".join(
            f"{line},{end}\n" for line, end in zip(file.read_text().splitlines(), ("joules", "350.5", ""), strict=True)
        )
    )
    assert results.read(tmp_path / "gan").costs == expected


def test_same_runs_same_bytes(tmp_path: Path):
    made_up.write(tmp_path / "first")
    made_up.write(tmp_path / "second")
    made_up.write(tmp_path / "second")
    assert files(tmp_path / "first" / "results") == files(tmp_path / "second" / "results")


def test_what_was_there_is_replaced_whole(tmp_path: Path):
    folder = tmp_path / "gan"
    runs = {("minimax", 0): {"modes": 10.0}, ("minimax", 1): {"modes": 8.0}}
    results_writer.write(folder, made_up.PAPER, "smoke", runs)
    (folder / "leftover.txt").write_text("old")
    results_writer.write(folder, made_up.PAPER, "smoke", runs)
    assert not (folder / "leftover.txt").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["gan"]


def test_a_write_that_fails_leaves_the_old_results(tmp_path: Path):
    folder, runs = tmp_path / "gan", {("minimax", 0): {"modes": 10.0}}
    results_writer.write(folder, made_up.PAPER, "smoke", runs)
    before = files(folder)
    with pytest.raises(FileNotFoundError):
        results_writer.write(
            folder, made_up.PAPER, "smoke", runs, histories={("pretrain", "minimax", 0): tmp_path / "none.csv"}
        )
    assert files(folder) == before


def test_runs_and_their_summary_by_hand(tmp_path: Path):
    runs = {("b", 1): {"modes": 4.0}, ("b", 0): {"modes": 2.0}, ("a", 0): {"modes": math.nan}}
    results_writer.write(
        tmp_path / "gan", made_up.PAPER, "smoke", runs, failures={("a", 1): "loss became nan at step 3"}
    )
    with (tmp_path / "gan" / "runs.csv").open(newline="") as file:
        rows = [(row["arm"], row["seed"], row["modes"], row["early_gradient"]) for row in csv.DictReader(file)]
    assert rows == [("b", "0", "2.0", ""), ("b", "1", "4.0", ""), ("a", "0", "nan", "")]
    metrics = json.loads((tmp_path / "gan" / "metrics.json").read_text())
    assert metrics["b"] == {"modes": {"mean": 3.0, "sd": 1.41421, "n": 2}}
    assert metrics["a"] == {"modes": {"mean": None, "sd": None, "n": 1}}
    card = json.loads((tmp_path / "gan" / "card.json").read_text())
    assert card["failures"] == {"a/s1": "loss became nan at step 3"}


def test_a_mean_that_is_no_finite_number_is_read_back_as_what_it_is(tmp_path: Path):
    runs = {
        ("a", 0): {"modes": math.inf, "early_gradient": math.nan},
        ("a", 1): {"modes": 1.0, "early_gradient": 1.0},
        ("b", 0): {"modes": -math.inf, "early_gradient": 2.0},
    }
    results_writer.write(tmp_path / "gan", made_up.PAPER, "smoke", runs)
    found = results.read(tmp_path / "gan")
    assert found.metrics["a"]["modes"] == {"mean": None, "sd": None, "n": 2}
    assert {key: repr(mean) for key, mean in found.not_finite.items()} == {
        ("a", "modes"): "inf",
        ("a", "early_gradient"): "nan",
        ("b", "modes"): "-inf",
    }


@pytest.mark.parametrize("recorded", [True, False])
def test_curves_are_of_the_runs_that_did_not_diverge(tmp_path: Path, recorded: bool):
    """Else all would end where the one that diverged did; nor does the axis count of a run that never began."""
    histories = {}
    for stage, seed, axis, steps in (
        ("pretrain", 0, "layer", 4),
        ("pretrain", 1, "layer", 4),
        ("finetune", 0, "layer", 4),
        ("finetune", 1, "step", 2),
    ):
        histories[stage, "minimax", seed] = tmp_path / f"{stage}{seed}.csv"
        rows = "".join(f"{step},{step + seed}\n" for step in range(steps))
        histories[stage, "minimax", seed].write_text(f"{axis},loss\n{rows}")
    records = {
        key: {"seconds": 1.0, "diverged": "loss is nan" if key[::2] == ("finetune", 1) else None} for key in histories
    }
    results_writer.write(
        tmp_path / "gan",
        made_up.PAPER,
        "smoke",
        {("minimax", 0): {"modes": 10.0}},
        failures={("minimax", 1): "loss is nan"},
        histories=histories,
        records=records if recorded else None,
    )
    found = results.read(tmp_path / "gan")
    assert found.card["axes"] == {"finetune": "layer", "pretrain": "layer"}
    assert found.curves["finetune_loss"]["minimax"].step == [0, 1, 2, 3]
    assert found.curves["finetune_loss"]["minimax"].high == [0, 1, 2, 3]
    assert found.curves["pretrain_loss"]["minimax"].high == ([1, 2, 3, 4] if recorded else [0, 1, 2, 3])


def test_what_was_judged_is_known_by_a_short_hash(tmp_path: Path):
    configs = {"minimax": {"lr": 0.1, "net": {"width": 3, "depth": 2}}}
    made_up.write(tmp_path, configs=configs)
    card = results.read(tmp_path / "results" / "laptop" / "gan").card
    assert card["configs"] == {"minimax": results_writer.config_hash({"net": {"depth": 2, "width": 3}, "lr": 0.1})}
    assert card["configs"]["minimax"] != results_writer.config_hash({"net": {"depth": 2, "width": 4}, "lr": 0.1})
    assert card["claims"] == {name: results_writer.claim_hash(made_up.PAPER, name) for name in made_up.PAPER.claims}
    tree = made_up.PAPER.model_dump(mode="json")
    tree["claims"]["beats_mixture"]["margin"] = 151.0
    tree["published"][0]["value"] = 226.0
    other = made_up.Paper.model_validate(tree)
    changed = [name for name in card["claims"] if results_writer.claim_hash(other, name) != card["claims"][name]]
    assert changed == ["beats_mixture", "as_published"]
    made_up.write(tmp_path)
    assert "configs" not in results.read(tmp_path / "results" / "laptop" / "gan").card


def test_curves_over_seeds_by_hand():
    steps, mean, low, high = results_writer.over_seeds([([0, 1, 2, 3], [0, 2, 4, 6]), ([1, 3], [4, 8])])
    assert steps.tolist() == [1, 2, 3], "the steps that both seeds span"
    assert mean.tolist() == [3, 5, 7]
    assert (low.tolist(), high.tolist()) == ([2, 4, 6], [4, 6, 8])
    long = np.arange(10_000.0).tolist()
    steps, mean, *_ = results_writer.over_seeds([(long, long)])
    assert len(steps) == results_writer.POINTS_PER_CURVE
    assert (steps[-1], mean[0]) == (9999, 24.5)


@pytest.mark.parametrize("width", [50, 80, 140])
def test_verdict_lines_show_every_interval(tmp_path: Path, width: int):
    verdicts = made_up.write(tmp_path)
    lines = [
        re.sub(r"\x1b\[\d+m", "", line) for line in listing.verdict_lines({"gan": verdicts}, {"gan": verdicts}, width)
    ]
    assert max(map(len, lines)) <= width
    text = " ".join(" ".join(lines).split())
    for verdict in verdicts.values():
        assert f"{listings.verdict_in_words(verdict)} {verdict.claim.replace('_', ' ')}" in text
        if verdict.interval:
            low, high = (signed(edge, 3) for edge in verdict.interval)
            assert f"[{low}, {high}]" in text
            assert f"claimed {listings.region_in_words(verdict)}, {verdict.seeds} seeds" in text
    assert "claimed > 0.5" in text
    assert "Laptop scale" in text


def test_dvc_reads_metrics_and_plots(tmp_path: Path):
    """With the stage of dvc.yaml, cut down to what it leaves in results/."""
    made_up.write(tmp_path)

    def run(*command: str) -> str:
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    dvc = (sys.executable, "-m", "dvc")
    run(*dvc, "init", "--no-scm", "--quiet")
    run(*dvc, "config", "core.analytics", "false")
    (tmp_path / ".dvc" / "plots").mkdir()
    shutil.copy(ROOT / ".dvc" / "plots" / "arms.json", tmp_path / ".dvc" / "plots")
    (tmp_path / "dvc.yaml").write_text(
        """
stages:
  evaluate:
    cmd: test -d results
    metrics:
      - results/laptop/gan/metrics.json:
          cache: false
    plots:
      - results/laptop/gan/plots:
          cache: false
          template: arms
          x: step
          y: mean
"""
    )
    shown = json.loads(run(*dvc, "metrics", "show", "--json"))
    metrics = shown[""]["data"]["results/laptop/gan/metrics.json"]["data"]
    assert metrics == json.loads((tmp_path / "results" / "laptop" / "gan" / "metrics.json").read_text())
    run(*dvc, "plots", "show", "--out", "page")
    page = (tmp_path / "page" / "index.html").read_text()
    for column in ("generator_loss", "gradient_norm", "validation"):
        assert f"results/laptop/gan/plots/pretrain_{column}.csv" in page
    assert '"field": "arm"' in page
    assert '"arm": "non_saturating", "step": ' in page


def test_floors_and_ceilings_are_numbers_or_means_of_arms(tmp_path: Path):
    tree = made_up.PAPER.model_dump(mode="json", exclude_defaults=True)
    tree["metrics"]["modes"] |= {
        "floor": {"says": "one digit only", "value": 1.0, "where": "counted by hand"},
        "ceiling": {"says": "a Gaussian mixture", "arm": "gaussian_mixture"},
    }
    tree["metrics"]["early_gradient"]["floor"] = {"says": "an arm that is not run", "arm": "faces"}
    paper = made_up.Paper.model_validate(tree)
    made_up.write(tmp_path, paper)
    found = results.read(tmp_path / "results" / "laptop" / "gan")
    mean = found.metrics["gaussian_mixture"]["modes"]["mean"]
    assert found.card["levels"] == {
        "modes": {
            "floor": {"says": "one digit only", "value": 1.0, "where": "counted by hand"},
            "ceiling": {"says": "a Gaussian mixture", "value": mean, "where": "mean of gaussian_mixture"},
        }
    }


def test_runs_are_read_back(tmp_path: Path):
    runs = {("a", 0): {"modes": 4.5}, ("a", 1): {"modes": math.inf, "early_gradient": 2.0}}
    results_writer.write(tmp_path / "gan", made_up.PAPER, "smoke", runs)
    assert results.read_runs(tmp_path / "gan") == runs


def test_listings_give_q_over_the_whole_catalogue_and_checks_last(tmp_path: Path):
    verdicts = made_up.write(tmp_path)
    twice = {"gan": verdicts, "other": verdicts}
    q = multiplicity.q_values(twice)
    page = listings.verdict_markdown(twice, {"gan": made_up.PAPER, "other": made_up.PAPER})
    assert f"{multiplicity.count(twice)}." in page
    first = next(line for line in page.splitlines() if "much stronger gradients" in line)
    assert first.endswith(f"| {q['gan', 'stronger_early_gradient']:.2g} |")
    check = replace(verdicts["beats_mixture"], counted=False, p=None, verdict="refuted")
    rows = listings.verdict_rows([check, verdicts["all_modes"]])
    assert "**does not hold**" in rows[-1]
    assert "counted" not in rows[-2]
    summary = listings.verdict_summary(
        {"gan": verdicts | {"beats_mixture": check}}, {"gan": made_up.PAPER}, {"gan": 600}
    )
    [row] = [line for line in summary.splitlines() if line.startswith("| 2014 | [gan](results/README.md#gan) |")]
    counted = [one for name, one in verdicts.items() if one.counted and one.interval and name != "beats_mixture"]
    assert f" {sum(one.verdict == 'reproduced' for one in counted)} reproduced" in row
    assert row.endswith(" | 5 |"), "ten minutes of a core are five of two"
    assert f"{counted[0].says} **" in row


def test_listings_have_a_column_for_the_papers_own_scale_where_there_is_one(tmp_path: Path):
    here = made_up.write(tmp_path)
    reading = made_up.project(tmp_path, {"gan": made_up.PAPER}).reading
    held = catalogue.renewed(reading, catalogue.state(tmp_path), "nothing")
    papers, seconds = {"gan": made_up.PAPER}, {"gan": 600.0}
    alone = listings.verdict_summary({"gan": here}, papers, seconds)
    [before] = listing.table(listing.rows(tmp_path, held, listing.Filters([])), False, 120)
    assert "scale" not in alone + before
    whole = made_up.write(tmp_path, scale="paper", better=140.0)
    assert (
        listings.verdict_summary({"gan": here}, papers, seconds, {"gan": {"as_published": here["as_published"]}})
        == alone
    )
    head, _, row, *_ = listings.verdict_summary({"gan": here}, papers, seconds, {"gan": whole}).splitlines()
    assert head.endswith("| minutes | ours at the paper's scale |")
    ours = f"{whole['as_published'].estimate:.4g}"
    reproduced = [one for one in whole.values() if one.verdict == "reproduced"]
    assert f"| 5 | {len(reproduced)} reproduced, " in row
    assert row.endswith(f": Adversarial nets, MNIST 225 nats, ours {ours} |")
    page = listings.verdict_markdown({"gan": here}, papers, {"gan": whole}).splitlines()
    met = int(whole["as_published"].verdict == "reproduced")
    said = f"At the papers' own scale 1 published number can be compared with ours; {met} of ours met the tolerance"
    assert any(line.startswith(said) for line in page)
    [row] = [line for line in page if line.startswith("| gan | Adversarial nets, MNIST (")]
    low, high = whole["as_published"].interval or (math.nan, math.nan)
    assert f"| 225 nats | {ours} [{low:.4g}, {high:.4g}] |" in row
    assert not any("own numbers" in line for line in listings.verdict_markdown({"gan": here}, papers).splitlines())
    found = listing.rows(tmp_path, held, listing.Filters([]))
    assert found[0]["at_paper_scale"] == {name: one.verdict for name, one in whole.items()}
    judged = [one for one in whole.values() if one.interval]
    [line, *details] = listing.table(found, True, 120)
    assert f"  paper's scale: {len(reproduced)} of {len(judged)}  Generative" in line
    assert any(detail.startswith("  as_published, at the paper's scale: ") for detail in details)
