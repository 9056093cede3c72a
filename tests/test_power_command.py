"""`reprise power` on the toy, from its pilot to the line that it writes."""

from __future__ import annotations

import json


def test_power_prints_a_row_for_each_claim_and_leaves_results_alone(toy_project):
    paper = toy_project.root / "papers" / "toy.yaml"
    before = paper.read_text().replace(", seeds: 2, check: true}", "}")
    before += "page: {idea: It mattered., headline: faster, hero: {picture: line, arm: slow, caption: A line.}}\n"
    floor = "better: lower, floor: {says: a slow one, arm: slow}"  # neither is there when an arm is alone on trial
    before = before.replace("better: lower", floor, 1)
    assert floor in before
    paper.write_text(before)
    params = toy_project.root / "params.yaml"
    params.write_text(params.read_text().replace("seeds: [0, 1]", "seeds: [1000, 1001, 1002, 1003, 1004, 1005]"))
    printed = toy_project.reprise("power", "toy", "--runs", "3", "--write")
    assert "pilot: fast, seeds 100 to 102" in printed
    assert "claimed above 0" in printed
    assert max(map(len, printed.partition("Seeds for toy")[2].splitlines())) <= 80
    found, _ = json.JSONDecoder().raw_decode(toy_project.reprise("power", "toy", "--runs", "3", "--json"))
    seeds = found["faster"]["plan"]["seeds"]
    assert found["faster"]["plan"]["effect"] > 0
    assert found["faster"]["core_minutes"] > 0
    assert not (toy_project.root / "models").exists()
    assert not (toy_project.root / "results").exists()
    expected = (
        before if seeds == 6 else before.replace("metric: error, higher", f"seeds: {seeds}, metric: error, higher")
    )
    assert paper.read_text() == expected
    assert "a pilot needs at least 3 runs" in toy_project.reprise("power", "toy", "--runs", "2", status=2)


def test_a_pilot_is_taken_from_results_of_seeds_that_are_judged_no_more(toy_project):
    paper, params = (toy_project.root / name for name in ("papers/toy.yaml", "params.yaml"))
    paper.write_text(paper.read_text().replace(", seeds: 2, check: true}", "}"))
    text, said = params.read_text(), paper.read_text()
    for first, start, reused in ((0, 1000, True), (1000, 1000, False), (1000, 2000, True)):
        paper.write_text(said.replace("claims:", f"first_seed: {start}\nclaims:"))
        params.write_text(text.replace("seeds: [0, 1]", f"seeds: {list(range(first, first + 6))}"))
        toy_project.reprise("pretrain", "toy")
        toy_project.reprise("evaluate", "toy")
        printed = toy_project.reprise("power", "toy", "--runs", "3", "--reuse")
        assert ("pilot: fast" not in printed) == reused
        found, _ = json.JSONDecoder().raw_decode(
            toy_project.reprise("power", "toy", "--runs", "3", "--reuse", "--json")
        )
        assert found["faster"]["plan"]["effect"] > 0
        assert found["faster"]["core_minutes"] > 0
