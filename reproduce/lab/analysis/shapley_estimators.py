"""The benchmark of estimators of Shapley values: errors against evaluations, and what the best peer needs for ours."""

import pathlib
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from scipy import stats

from lab import files, pictures, rows, tables
from lab.data import described as source_in_words
from lab.estimator_peers import PEERS
from lab.rows import Row
from lab.statistics import CONFIDENCE, Interval, interval

NAME = "shapley_estimators"
TRUTH = "truth"  # name of the rows that describe a game
OURS = ("auto", "surrogate", "regression", "orders", "moments", "masks")
ONCE = ("moments",)  # methods without a budget
PRINCIPAL, COMPARED = "auto", 5  # what peers are compared with: a method, and its budget
LARGEST = 10  # errors above are not told apart
# of peers in the picture: colours and dashes by package, as the table tells their methods apart
PACKAGES = {"shap": ("#8c6d31", "--"), "captum": ("#d6616b", "-."), "shapiq": ("0.6", ":")}
TINY = 1e-12  # in place of an error of zero
TIMED = 10  # the budget whose seconds are in the table
TITLES = {
    "digits_mlp": "digits, MLP, pixels, mean image",
    "digits_conv": "digits, conv net, 16 patches, black",
    "breast_cancer": "breast cancer, MLP, 30 features, 50 background rows",
    "mnist": "MNIST, conv net, 49 patches, mean image",
    "cifar10": "CIFAR-10, conv net, 64 patches, grey",
    "efficientnet_lite0": "EfficientNet-Lite0, logit, 49 patches, grey",
}
INTRODUCTION = f"""\
# Estimators of Shapley values

Made by `python reproduce/benchmarks/{NAME}.py`. n is the number of players that differ from the
baseline; a budget is a multiple of it. One evaluation is a coalition's value.

*Error*: relative RMSE against the truth; the truth's own error is subtracted in quadrature. Means over inputs and
seeds, with 95 % intervals over inputs (Student's t). *Used*: evaluations over n. *Correlation*: of estimate and truth.
*Covered*: share of the players whose 95 % interval, widened by the truth's standard error, holds the truth. *Seconds*:
for one input; rough, as other programs ran at the same time. *Best peer needs*: evaluations at which the best of the
peers has the error that `{PRINCIPAL}` has at {COMPARED}n, over those of `{PRINCIPAL}`; between budgets interpolated
in logarithms.
"""

Points = dict[str, list["Point"]]


class Point(NamedTuple):
    """What a method achieves at a budget.

    Attributes:
        budget: evaluations for each player; None for a method without one.
        used: mean of the evaluations over the number of players.
        error: relative RMSE; None if the method refused the budget.
        correlation: with the truth.
        covered: share of intervals that hold the truth; None for a method without standard errors.
        seconds: median for one input.
        seeds: number of seeds.
    """

    budget: int | None
    used: float
    error: Interval | None
    correlation: float
    covered: float | None
    seconds: float
    seeds: int


def errors(
    values: np.ndarray, stderr: np.ndarray | None, truth: np.ndarray, truth_stderr: np.ndarray
) -> dict[str, float | None]:
    """Relative RMSE and correlation of an input's estimate, and the share of 95 % intervals that cover the truth."""
    values = np.asarray(values, "float64")
    differences = values - truth
    covered = None
    # one pair of orders has values, but no spread
    if stderr is not None and np.isfinite(stderr).all():
        half = stats.norm.ppf((1 + CONFIDENCE) / 2) * np.hypot(stderr, truth_stderr)
        # differences below rounding are none
        covered = float(np.mean(np.abs(differences) <= half + 1e-6 * np.abs(truth).max()))
    with np.errstate(invalid="ignore", divide="ignore"):
        correlation = float(np.corrcoef(values, truth)[0, 1])
    error = float(np.linalg.norm(differences) / np.linalg.norm(truth))
    return {"error": error, "correlation": correlation, "covered": covered}


def without_noise(error: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Relative errors against the exact values, from those against a truth that has an error of its own.

    Args:
        error: relative to the norm of the truth.
        noise: the truth's own error, relative to the same norm, which it enlarges.
    """
    return np.sqrt(np.maximum(np.square(error) - np.square(noise), 0) / (1 - np.square(noise)))


def write(out: pathlib.Path) -> str:
    """Writes table and picture from the results in a directory; returns the table.

    Raises:
        ValueError: if there are none.
    """
    finished = rows.read(out / f"{NAME}.jsonl")
    if not finished:
        raise ValueError(f"{out / NAME}.jsonl holds no finished row")
    games = by_game(finished)
    points = {name: summarized(described, found) for name, (described, found) in games.items()}
    text = table(games, points)
    files.write(out / f"{NAME}.md", text)
    draw(out / f"{NAME}.png", points)
    return text


def by_game(finished: Iterable[Row]) -> dict[str, tuple[Row, list[Row]]]:
    """By the name of each game the row that describes it and the rows of methods on as many inputs.

    A game with several numbers of inputs is read with the largest of these.
    """
    finished = list(finished)
    games = {}
    for name in TITLES:
        described = [row for row in finished if row["run"]["game"] == name and row["run"]["method"] == TRUTH]
        if not described:
            continue
        largest = max(described, key=lambda row: row["run"]["images"])
        found = [
            row
            for row in finished
            if row["run"]["game"] == name
            and row["run"]["method"] != TRUTH
            and row["run"]["images"] == largest["run"]["images"]
        ]
        if found:
            games[name] = largest, found
    return games


def summarized(described: Row, found: Iterable[Row]) -> Points:
    """What each method achieves at each budget, the budgets in their order."""
    players, noise = (np.array(described["result"][name], "float64") for name in ("players", "noise"))
    groups: dict[tuple[str, int | None], list[dict[str, Any]]] = {}
    for row in sorted(found, key=lambda row: (row["run"]["budget"] or 0, row["run"]["seed"])):
        groups.setdefault((row["run"]["method"], row["run"]["budget"]), []).append(row["result"])
    points: Points = {}
    for (method, budget), results in groups.items():
        points.setdefault(method, []).append(_point(budget, results, players, noise))
    return points


def _point(budget: int | None, results: list[dict[str, Any]], players: np.ndarray, noise: np.ndarray) -> Point:
    if any("refused" in result for result in results):
        return Point(budget, np.nan, None, np.nan, None, np.nan, len(results))
    parts = {name: np.array([result[name] for result in results], "float64") for name in results[0]}
    error = without_noise(parts["error"], noise)
    covered = None if np.isnan(parts["covered"]).all() else float(np.nanmean(parts["covered"]))
    return Point(
        budget,
        float((parts["evaluations"] / players).mean()),
        # the samples of an input's seeds, and of different inputs, are independent
        interval(error.mean(axis=0)),
        # an estimate that is the same for all players has none
        float(np.nan_to_num(parts["correlation"]).mean()),
        covered,
        float(np.median(parts["seconds"])),
        len(results),
    )


class Need(NamedTuple):
    """What a peer needs for our error.

    Attributes:
        peer: its name.
        ratio: its evaluations over ours; a bound if it was never so near, or always.
        relation: "" for an interpolated ratio, ">" if its largest budget is not enough, "<" if its smallest is more.
    """

    peer: str
    ratio: float
    relation: str

    def __str__(self) -> str:
        peer = "no peer is so near" if self.relation == ">" else self.peer
        return f"{f'{self.relation} ' if self.relation else ''}{self.ratio:.1f} ({peer})"


def needed(points: Points) -> Need | None:
    """The evaluations of the best peer for the error of `PRINCIPAL` at `COMPARED`, over those of `PRINCIPAL`."""
    ours = next((point for point in points.get(PRINCIPAL, ()) if point.budget == COMPARED and point.error), None)
    curves = {name: [point for point in found if point.error] for name, found in points.items() if name not in OURS}
    if ours is None or not any(curves.values()):
        return None
    needs = [_need(name, found, ours) for name, found in curves.items() if found]
    reached = [need for need in needs if need.relation != ">"]
    # if none is so near, the peer with the most evaluations says how many are not enough
    return min(reached, key=lambda need: need.ratio) if reached else max(needs, key=lambda need: need.ratio)


def _need(name: str, found: list[Point], ours: Point) -> Need:
    used, error = (np.array(part) for part in zip(*((point.used, point.error.mean) for point in found)))
    near = np.flatnonzero(error <= ours.error.mean)
    if not len(near):
        return Need(name, used.max() / ours.used, ">")
    last = near[0]
    if last == 0:
        return Need(name, used[0] / ours.used, "<")
    between = slice(last - 1, last + 1)
    # np.interp wants increasing errors
    logarithms = np.log(np.maximum([error[between][::-1], used[between][::-1]], TINY))
    crossing = np.interp(np.log(max(ours.error.mean, TINY)), *logarithms)
    return Need(name, float(np.exp(crossing) / ours.used), "")


def table(games: dict[str, tuple[Row, list[Row]]], points: dict[str, Points]) -> str:
    """Markdown of the errors."""
    titles = ("game", f"`{PRINCIPAL}` at {COMPARED}n", f"best peer at {COMPARED}n", "best peer needs")
    lines = [INTRODUCTION, *tables.head(*titles)]
    lines += [tables.line(_summary(name, found)) for name, found in points.items()]
    for name, (described, found) in games.items():
        lines += ["", *_of_game(name, described, found, points[name])]
    measured = {method for found in points.values() for method in found}
    absent = [name for name in PEERS if name not in measured]
    notes = (
        [f"Without rows, because they were not installed or not asked for: {', '.join(absent)}.", ""] if absent else []
    )
    finished = [row for described, found in games.values() for row in (described, *found)]
    return "\n".join([*lines, "", *notes, *_origins(finished)]) + "\n"


def _summary(name: str, found: Points) -> list[str]:
    at = {method: point for method, points in found.items() for point in points if point.budget == COMPARED}
    peers = {method: point.error for method, point in at.items() if method not in OURS and point.error}
    best = min(peers, key=lambda method: peers[method].mean, default=None)
    need = needed(found)
    return [
        TITLES[name],
        _error(at.get(PRINCIPAL)),
        f"{_error(at[best])}, {best}" if best else "",
        str(need) if need else "",
    ]


def _of_game(name: str, described: Row, found: list[Row], points: Points) -> list[str]:
    players, noise = (described["result"][part] for part in ("players", "noise"))
    truth = f"relative error {max(noise):.3f} or less" if max(noise) else "all coalitions"
    budgets = sorted({point.budget for each in points.values() for point in each if point.budget is not None})
    seeds = [_range([point.seeds for each in points.values() for point in each if point.budget == n]) for n in budgets]
    counted = f"{len(players)} inputs, {_range(players)} players; seeds at each budget: {', '.join(seeds)}."
    lines = [f"## {TITLES[name]}", "", f"{counted} Truth: {truth}.", ""]
    at_each = ", ".join(f"{budget}n" for budget in budgets)
    lines += tables.head(
        *("method", *(f"error at {budget}n" for budget in budgets), f"used at {at_each}"),
        *(f"correlation at {at_each}", f"covered at {at_each}", f"seconds at {TIMED}n"),
    )
    order = [method for method in (*OURS, *PEERS) if method in points]
    lines += [tables.line([method, *_cells(points[method], budgets)]) for method in order]
    refusals = {row["run"]["method"]: row["result"]["refused"] for row in found if "refused" in row["result"]}
    return lines + [f"\n`{method}` refused: {words}" for method, words in refusals.items()]


def _range(counts: list[int]) -> str:
    return f"{min(counts)} to {max(counts)}" if min(counts) < max(counts) else f"{counts[0]}"


def _cells(points: list[Point], budgets: list[int]) -> list[str]:
    at = {point.budget: point for point in points}
    timed = at.get(TIMED, at.get(None))
    return [
        # what has no budget stands once
        *([_error(at[None]), *[""] * (len(budgets) - 1)] if None in at else [_error(at.get(n)) for n in budgets]),
        _listed(f"{point.used:.1f}" if point.error else None for point in points),
        _listed(f"{point.correlation:.3f}" if point.error else None for point in points),
        _listed(None if point.covered is None else f"{point.covered:.2f}" for point in points),
        f"{timed.seconds:.2g}" if timed and timed.error else "",
    ]


def _listed(words: Iterable[str | None]) -> str:
    """Words with commas, with a dash for None; nothing if all are."""
    words = list(words)
    return ", ".join(word or "–" for word in words) if any(words) else ""


def _error(point: Point | None) -> str:
    if point is None:
        return ""
    if point.error is None:
        return "refused"
    # a regression on few samples can be singular
    return tables.with_interval(point.error) if point.error.mean < LARGEST else f"above {LARGEST}"


def _origins(finished: list[Row]) -> list[str]:
    """Lines on the data, and on all devices, versions and commits together."""
    versions: dict[str, set[str]] = {}
    for row in finished:
        for package, version in row["versions"].items():
            versions.setdefault(package, set()).add(version)
    words = [f"{package} {' and '.join(sorted(found))}" for package, found in versions.items()]
    commits = dict.fromkeys(row["commit"] or "unknown" for row in finished)
    devices = dict.fromkeys(row["device"] for row in finished)
    sources = dict.fromkeys(source_in_words(row["data"]) for row in finished)
    return tables.provenance([*sources, ", ".join(devices), ", ".join(words), f"commit {', '.join(commits)}"])


def draw(path: pathlib.Path, games: dict[str, Points]) -> None:
    """Draws error against evaluations for each player, with a panel for each game."""
    columns = min(2, len(games))
    n_rows = -(-len(games) // columns)
    with pictures.picture(path, 4 * columns, 2.9 * n_rows + 1) as figure:
        panels = figure.subplots(n_rows, columns, squeeze=False).ravel()
        for axes in panels[len(games) :]:
            axes.axis("off")
        for axes, (name, points) in zip(panels, games.items()):
            _panel(axes, points)
            axes.set_title(TITLES[name], fontsize="small")
        for axes in panels[: len(games)]:
            pictures.label_ends(axes, 7)
        for axes in panels[: len(games)][-columns:]:
            axes.set_xlabel("evaluations for each player")
        peers = {_package(method): Line2D([], [], **_peer_style(method)) for each in games.values() for method in each}
        peers.pop("", None)
        if peers:
            figure.legend(peers.values(), peers, loc="outside lower center", ncols=3, fontsize="small")
        figure.suptitle("How many evaluations do Shapley values take?")
        figure.supylabel("relative RMSE against Shapley values", fontsize="medium")


def _package(method: str) -> str:
    """The package of a peer; nothing for a method of ours."""
    return "" if method in OURS else method.partition(".")[0]


def _peer_style(method: str) -> dict[str, Any]:
    colour, dashes = PACKAGES.get(_package(method), ("0.7", ":"))
    return {"color": colour, "ls": dashes, "lw": 1}


def _panel(axes: Axes, points: Points) -> None:
    smallest, largest = np.inf, 0.0
    for method, found in points.items():
        measured = [point for point in found if point.error]
        used, error = ([part(point) for point in measured] for part in (_used, _mean))
        if method in OURS:
            style = {"color": f"C{OURS.index(method)}", "lw": 1.8, "marker": "o", "ms": 4, "zorder": 3}
            axes.plot(used, error, label=method, **style)
        else:
            axes.plot(used, error, **_peer_style(method))
        smallest, largest = min([smallest, *(e for e in error if e > 0)]), max([largest, *error])
    # on few samples some errors are far above the values themselves
    bottom, top = smallest / 1.3, min(largest * 1.3, 3)
    axes.set(xscale="log", yscale="log")
    ticks = [tick for tick in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2) if bottom < tick < top]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    most = axes.get_xlim()[1]
    ticks = [tick for tick in (2, 5, 10, 50) if tick < most]
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.set_ylim(bottom, top)
    axes.minorticks_off()
    axes.grid(alpha=0.3)


def _used(point: Point) -> float:
    return point.used


def _mean(point: Point) -> float:
    return point.error.mean
