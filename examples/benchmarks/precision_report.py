"""Tables and curves of `work_precision.py`."""

from __future__ import annotations

import math
from pathlib import Path

import attrs
from matplotlib.figure import Figure

HEADINGS = (
    "calls",
    "best, fitted grids too",
    "best without",
    "best peer",
    "ratio",
    "without",
    "defaults: ours",
    "best peer's",
    "ratio",
)


@attrs.frozen(kw_only=True)
class Result:
    """One run: `owner` is `diffkit` or another library; `group` is `plain`, `fitted` or `default`."""

    problem: str
    owner: str
    solver: str
    grid: str
    group: str
    calls: int
    error: float


def best(results: list[Result], calls: int, mine: bool, *groups: str) -> Result | None:
    chosen = [
        r
        for r in results
        if r.calls == calls and r.group in groups and (r.owner == "diffkit") == mine and r.error == r.error
    ]
    return min(chosen, key=lambda r: r.error, default=None)


def said(result: Result | None) -> str:
    if result is None:
        return "-"
    owner = "" if result.owner == "diffkit" else f"{result.owner} "
    return f"{result.error:.2e} {owner}{result.solver}, {result.grid}"


def table(results: list[Result], counts: tuple[int, ...]) -> list[str]:
    """A Markdown table for each problem, and the geometric means of its ratios."""
    lines = []
    for problem in dict.fromkeys(r.problem for r in results):
        rows = [r for r in results if r.problem == problem]
        lines += [f"### {problem}", ""]
        lines += [f"| {' | '.join(HEADINGS)} |", "|---" * len(HEADINGS) + "|"]
        logs: tuple[list[float], ...] = ([], [], [])
        for n in counts:
            whole, plain, peer = (
                best(rows, n, True, "plain", "fitted"),
                best(rows, n, True, "plain"),
                best(rows, n, False, "plain"),
            )
            own, other = best(rows, n, True, "default"), best(rows, n, False, "default")
            cells = []
            for log, (a, b) in zip(logs, ((whole, peer), (plain, peer), (own, other)), strict=True):
                if a is not None and b is not None:
                    log.append(math.log(a.error / b.error))
                    cells.append(f"{math.exp(log[-1]):.2f}")
                else:
                    cells.append("-")
            lines.append(
                f"| {n} | {said(whole)} | {said(plain)} | {said(peer)} | {cells[0]} | {cells[1]} | "
                f"{said(own)} | {said(other)} | {cells[2]} |"
            )
        means = [f"{math.exp(sum(log) / len(log)):.2f}" if log else "-" for log in logs]
        lines += [f"| geometric mean | | | | {means[0]} | {means[1]} | | | {means[2]} |", ""]
    return lines


def plot(results: list[Result], counts: tuple[int, ...], path: Path) -> None:
    names = list(dict.fromkeys(r.problem for r in results))
    figure = Figure(figsize=(5.2 * len(names), 4.4), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        rows = [r for r in results if r.problem == name]
        curves = (
            ("ours, fitted grid", True, ("fitted",), "C0-o"),
            ("ours, plain grids", True, ("plain",), "C2-s"),
            ("best peer", False, ("plain",), "C3-^"),
            ("ours, default settings", True, ("default",), "C2:s"),
            ("best of the peers' defaults", False, ("default",), "C3:^"),
        )
        for label, mine, groups, style in curves:
            points = [(n, found.error) for n in counts if (found := best(rows, n, mine, *groups)) is not None]
            if points:
                axes.loglog(*zip(*points, strict=True), style, label=label, markersize=4)
        axes.set(title=name, xlabel="denoiser calls", ylabel="geometric mean of RMS errors")
        axes.set_xticks(counts, [str(n) for n in counts])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)
