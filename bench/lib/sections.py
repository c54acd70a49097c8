# SPDX-License-Identifier: BSD-3-Clause
"""Sections of a benchmark: ways to do one thing, measured in turn, and what to reach.

Each round measures every way of a section once, so that a noisy neighbour hits all
alike. What counts is the ratio of two ways inside one round; the result is the median
of the rounds' ratios.
"""

import dataclasses
import statistics
from collections.abc import Callable

from lib.common import say


@dataclasses.dataclass
class Target:
    """Metric @metric of way @ours as a multiple of the same of way @other."""

    text: str
    ours: str
    other: str
    metric: str
    bound: float
    at_least: bool = True

    def ratios(self, rounds):
        return [row[self.ours][self.metric] / row[self.other][self.metric]
                for row in rounds]

    def verdict(self, rounds):
        ratio = statistics.median(self.ratios(rounds))
        good = ratio >= self.bound if self.at_least else ratio <= self.bound
        return {"target": self.text, "at_least" if self.at_least else "at_most":
                self.bound, "ratio": ratio, "reached": good}


@dataclasses.dataclass
class Section:
    """@ways: name -> function of the bench that returns {metric: value}"""

    name: str
    ways: dict[str, Callable]
    targets: list[Target]


def run_rounds(sections, bench, n_rounds):
    """Return {section: [{way: {metric: value}} for each round]}."""
    results = {section.name: [] for section in sections}
    for number in range(n_rounds):
        for section in sections:
            row = {}
            for way, measure in section.ways.items():
                say(f"round {number + 1}/{n_rounds} {section.name} {way:<19} ", end="")
                row[way] = measure(bench)
                say("  ".join(f"{key} {value:.4g}" for key, value in row[way].items()))
            results[section.name].append(row)
    return results


def medians(rounds):
    """Return {way: {metric: median}}."""
    return {way: {metric: statistics.median(row[way][metric] for row in rounds)
                  for metric in values}
            for way, values in rounds[0].items()}


def report(sections, results):
    """Print medians and verdicts; return them for the JSON file."""
    summary = {}
    for section in sections:
        rounds = results[section.name]
        middle = medians(rounds)
        verdicts = [target.verdict(rounds) for target in section.targets]
        print(f"\n{section.name}, medians of {len(rounds)}")
        for way, values in middle.items():
            print(f"  {way:<19}" + "  ".join(f"{key} {value:.4g}"
                                             for key, value in values.items()))
        for row in verdicts:
            sign = "at least" if "at_least" in row else "at most"
            bound = row.get("at_least", row.get("at_most"))
            print(f"  target: {row['target']}: {sign} {bound}, {row['ratio']:.2f}, "
                  f"{'reached' if row['reached'] else 'NOT reached'}")
        summary[section.name] = {"medians": middle, "targets": verdicts}
    return summary
