"""Figures of reports as PNG, drawn by matplotlib without a display."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from .verification import ScoreCounts, Verification


def score_distributions(counts: ScoreCounts, rates: Verification, title: str) -> bytes:
    """Genuine and impostor similarities with the thresholds of EER and FMR100."""
    figure, axes = _axes(7.0, 3.6)
    coarse = counts.coarse(128)
    low, high = np.flatnonzero(coarse.genuine + coarse.impostor)[[0, -1]]
    for name, values, colour in (("impostor", coarse.impostor, "#c0504d"), ("genuine", coarse.genuine, "#2f6f9f")):
        share = values / max(1, values.sum())
        axes.bar(coarse.centres, share, 2 / 128, alpha=0.6, color=colour, label=f"{name} ({int(values.sum())})")
    lines = (("EER", rates.eer_threshold, "-", rates.eer), ("FMR100", rates.fmr100_threshold, "--", rates.fmr100))
    for name, at, style, value in lines:
        axes.axvline(at, color="#333", linestyle=style, linewidth=1, label=f"{name} {100 * value:.2f} %")
    axes.set_xlim(coarse.centres[max(0, low - 2)], coarse.centres[min(127, high + 2)])
    axes.set(xlabel="similarity", ylabel="share of comparisons", title=title)
    axes.legend(frameon=False)
    return _png(figure)


def confusion_table(counts: Int[ndarray, "n n"], names: Sequence[str], title: str) -> bytes:
    """Rows: wanted; shares of each row in colour, counts as text."""
    figure, axes = _axes(5.6, 5.0)
    share = counts / np.maximum(1, counts.sum(1, keepdims=True))
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for i in range(len(names)):
        for j in range(len(names)):
            if counts[i, j]:
                colour = "white" if share[i, j] > 0.6 else "black"
                axes.text(j, i, str(int(counts[i, j])), ha="center", va="center", color=colour, fontsize=8)
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="read", ylabel="wanted", title=title)
    return _png(figure)


def ranking(
    names: Sequence[str],
    values: Sequence[float],
    spans: Sequence[tuple[float, float]],
    xlabel: str,
    title: str,
) -> bytes:
    """Values with intervals, one line each, in the given order from above."""
    figure, axes = _axes(7.0, 0.9 + 0.28 * len(names))
    rows = np.arange(len(names))[::-1]
    middle = np.asarray(values, float)
    reach = np.abs(np.asarray(spans, float).T - middle)
    axes.errorbar(middle, rows, xerr=reach, fmt="o", color="#2f6f9f", ecolor="#9bb8cc", markersize=4, capsize=2)
    axes.set_yticks(rows, names, fontsize=8)
    axes.set(xlabel=xlabel, title=title)
    axes.grid(axis="x", color="#eee")
    return _png(figure)


def scatter(x: Float[ndarray, "n"], y: Float[ndarray, "n"], xlabel: str, ylabel: str, title: str) -> bytes:
    """Points within -1..1 and the diagonal."""
    figure, axes = _axes(4.4, 4.2)
    axes.plot([-1, 1], [-1, 1], color="#ccc", linewidth=1)
    axes.scatter(x, y, s=12, color="#2f6f9f", alpha=0.7)
    axes.set(xlim=(-1.05, 1.05), ylim=(-1.05, 1.05), xlabel=xlabel, ylabel=ylabel, title=title)
    return _png(figure)


def _axes(width: float, height: float) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure, axes


def _png(figure: Any) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=140, metadata={"Software": None})
    return stream.getvalue()
