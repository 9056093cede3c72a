"""bench/README.md from results.json."""

from __future__ import annotations

from statistics import median
from typing import Any


def ratios(case: dict[str, Any], peer: str, key: str = "rate") -> list[float]:
    """Return our `key` over the peer's, for each pair."""
    return [pair["ours"][key] / pair[peer][key] for pair in case["pairs"]]


def page(results: dict[str, Any], profile: str) -> str:
    """The whole page, as Markdown."""
    machine = results["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return "\n".join(
        [
            "# Beside what a user would pick instead",
            "",
            "Written by `make bench`; every number of every pair is in results.json. Each side runs in a process of",
            "its own, in turns, on the same data, with the same size of model, batch, number of updates, precision and",
            "threads. A ratio is ours over the peer's within a pair, faster above 1; a cost is the other way round.",
            "Median [least, greatest].",
            "",
            f"{machine['cpu']}, {machine['cores']} cores; Python {machine['python']}, {versions}."
            + (f" All of it took {results['minutes']} minutes." if "minutes" in results else ""),
            "",
            "## Speed",
            "",
            "| work | ours | peer | its rate | ratio | goal | |",
            "|---|---|---|---|---|---|---|",
            *(row for case in results["cases"].values() for row in speed_rows(case)),
            "",
            "## Quality of what came out",
            "",
            "| work | quantity | ours | peer |",
            "|---|---|---|---|",
            *(row for case in results["cases"].values() for row in quality_rows(case)),
            "",
            "## Peak memory of the process",
            "",
            "| work | peer | ours, MB | its, MB | ratio | goal ≤ 1.0 |",
            "|---|---|---|---|---|---|",
            *(row for case in results["cases"].values() if case["memory"] for row in memory_rows(case)),
            "",
            "## How cost grows",
            "",
            "![Time and memory against number of runs, size of the data and of the catalogue](growth.svg)",
            "",
            profile.strip(),
            "",
        ]
    )


def speed_rows(case: dict[str, Any]) -> list[str]:
    """A line for each peer."""
    rows = []
    for peer, goal in case["goals"].items():
        values, bound, sign = ratios(case, peer), goal, "≥"
        if case["as_cost"] or goal < 1:
            values, bound, sign = [1 / value for value in values], 1 / goal, "≤ (cost)"
        met = median(ratios(case, peer)) >= goal
        ours, theirs = (median(pair[side]["rate"] for pair in case["pairs"]) for side in ("ours", peer))
        unit = case["unit"]
        rows.append(
            f"| {case['what']} | {ours:.4g} {unit} | {peer} | {theirs:.4g} {unit} | {spread(values)} "
            f"| {sign} {bound:.3g} | {'met' if met else '**missed**'} |"
        )
    return rows


def quality_rows(case: dict[str, Any]) -> list[str]:
    """A line for each peer and quantity that both sides have."""
    first = case["pairs"][0]
    return [
        f"| {case['what']} | {name} | {spread([pair['ours']['quality'][name] for pair in case['pairs']])} "
        f"| {peer}: {spread([pair[peer]['quality'][name] for pair in case['pairs']])} |"
        for peer in case["goals"]
        for name in first["ours"]["quality"]
        if name in first[peer]["quality"]
    ]


def memory_rows(case: dict[str, Any]) -> list[str]:
    """A line for each peer."""
    rows = []
    for peer in case["goals"]:
        values = ratios(case, peer, "peak_megabytes")
        ours, theirs = (median(pair[side]["peak_megabytes"] for pair in case["pairs"]) for side in ("ours", peer))
        met = "met" if median(values) <= 1.0 else "**missed**"
        rows.append(f"| {case['what']} | {peer} | {ours:.0f} | {theirs:.0f} | {spread(values)} | {met} |")
    return rows


def spread(values: list[float]) -> str:
    """`2.31 [2.20, 2.45]`."""
    return f"{median(values):.3g} [{min(values):.3g}, {max(values):.3g}]"
