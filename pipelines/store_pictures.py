"""Features of one sample as pictures: how large they are over time, and their first principal components."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipelines.plot_style import TIME_COLOURS, drawn

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from store.features import Features

Kind = Literal["norm", "pca"]
CAPTIONS: dict[Kind, str] = {
    "norm": "L2 norm of the tokens over time: the mean over the tokens of a time step, and the range from the smallest "
    "to the largest. Norms have the unit of the encoder's output, which has none.",
    "pca": "The tokens in the plane of their first two principal components, with the share of the variance that each "
    "explains. A token is coloured by its time: early ones are dark.",
}
MOST_STEPS = 2_000  # of a sample that are drawn; of longer ones every n-th
MOST_TOKENS = 4_000  # of the principal components


@dataclass(frozen=True)
class _Shown:
    """What is drawn: times (T,), their label, and the tokens (T, S, D) float32."""

    times: NDArray[np.floating[Any]]
    label: str
    tokens: NDArray[np.float32]


def feature_picture(features: Features, kind: Kind) -> bytes:
    """PNG of a sample's features `values` (T, S, D)."""
    shown = _shown(features)
    picture = io.BytesIO()
    with drawn(picture, 8, 3.4 if kind == "norm" else 4.2) as figure:
        draw = _draw_norms if kind == "norm" else _draw_components
        draw(figure.add_subplot(), shown)
    return picture.getvalue()


def _shown(features: Features) -> _Shown:
    every = -(-len(features.values) // MOST_STEPS)  # rounded up
    tokens = features.values[::every].astype(np.float32)
    times = features.timestamps[::every]
    if np.isfinite(times).all():
        return _Shown(times, "time (s)", tokens)
    return _Shown(np.arange(len(tokens)) * float(every), "time step (no clock)", tokens)


def _draw_norms(axes: Axes, shown: _Shown) -> None:
    norms = np.linalg.norm(shown.tokens, axis=-1)  # (T, S)
    marker = "o" if len(norms) < 40 else None
    axes.plot(shown.times, norms.mean(axis=1), marker=marker, markersize=4, label="mean of the tokens")
    if norms.shape[1] > 1:
        axes.fill_between(
            shown.times, norms.min(axis=1), norms.max(axis=1), alpha=0.2, linewidth=0, label="range"
        )
        axes.legend()
    axes.set(xlabel=shown.label, ylabel="L2 norm")
    axes.set_ylim(bottom=0)


def _draw_components(axes: Axes, shown: _Shown) -> None:
    flat = shown.tokens.reshape(-1, shown.tokens.shape[-1])  # (T * S, D)
    times = np.repeat(shown.times, shown.tokens.shape[1])
    every = -(-len(flat) // MOST_TOKENS)
    places, shares = principal_components(flat[::every])
    points = axes.scatter(places[:, 0], places[:, 1], c=times[::every], cmap=TIME_COLOURS, s=14, linewidths=0)
    axes.set(
        xlabel=f"first component ({shares[0]:.0%} of the variance)",
        ylabel=f"second component ({shares[1]:.0%})",
    )
    assert axes.figure is not None
    axes.figure.colorbar(points, ax=axes, label=shown.label)


def principal_components(tokens: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Tokens (N, D) in their first two principal components (N, 2), and the shares (2,) of the variance of these.

    What has fewer components (one token, one dimension, all tokens alike) gets zeros.
    """
    centred = tokens.astype(np.float64) - tokens.mean(axis=0, dtype=np.float64)
    _, sizes, directions = np.linalg.svd(centred, full_matrices=False)
    variance = (sizes**2).sum()
    places, shares = np.zeros((len(tokens), 2)), np.zeros(2)
    if variance > 0:
        count = min(2, len(sizes))
        places[:, :count] = centred @ directions[:count].T
        shares[:count] = sizes[:count] ** 2 / variance
    return places, shares
