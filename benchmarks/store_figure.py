"""The figure of the store's benchmark: one bar per ratio, and the times of a large catalog."""

from collections.abc import Mapping
from pathlib import Path

_PANELS = {
    "Random read of one sample": "random_read/",
    "Scan of all samples": "scan/",
    "Mapped view, reused buffer": ("view/", "read_into/"),
    "DataLoader (2 workers), writing": ("loader/", "write"),
}
_COLOURS = {"pt": "#4c72b0", "safetensors": "#dd8452", "hdf5": "#55a868", "memmap": "#8172b3"}


def draw(result: Mapping[str, float], path: Path) -> None:
    """Writes the figure of `result`, the benchmark's JSON object, as PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.patches import Patch
    from matplotlib.ticker import NullFormatter

    figure, panels = pyplot.subplots(1, 4, figsize=(19, 6.5), layout="constrained")
    for axes, (title, prefixes) in zip(panels, _PANELS.items(), strict=True):
        ratios = {
            name: value for name, value in result.items() if name.startswith(prefixes) and "vs_" in name
        }
        names = list(ratios)[::-1]
        others = [name.rpartition("vs_")[2] for name in names]
        bars = axes.barh(
            [name.removesuffix(f"/vs_{other}") for name, other in zip(names, others, strict=True)]
            if len({name.rpartition("/")[0] for name in names}) == len(names)
            else [name.replace("random_read/", "").replace("scan/", "").replace("_", " ") for name in names],
            [ratios[name] for name in names],
            color=[_COLOURS[other] for other in others],
        )
        axes.bar_label(bars, fmt="%.3g", padding=3, fontsize=9)
        axes.axvline(1, color="black", linewidth=1)
        axes.set(xscale="log", title=title, xlabel="times as fast (above 1: the store is faster)")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlim(min(0.5, *ratios.values()) / 2, max(ratios.values()) * 3)
        axes.margins(y=0.02)
    figure.legend(
        handles=[Patch(color=colour, label=f"against {name}") for name, colour in _COLOURS.items()],
        loc="outside upper right",
        ncols=4,
    )
    figure.suptitle(
        "The feature store against files of one sample each, one HDF5 file and a raw memmap (bf16)",
        x=0.01,
        ha="left",
    )
    figure.supxlabel(
        f"Page cache warm. Samples of {result['mb/audio']:.2g} MB (audio), {result['mb/dense']:.2g} MB (dense) "
        f"and {result['mb/frames']:.2g} MB (frames). Catalog: open and missing "
        f"{result['open_missing_s/1e4']:.2f} s at 10^4 rows and {result['open_missing_s/1e6']:.2f} s at 10^6, "
        f"filtered query {result['query_s/1e6']:.2f} s, peak memory {result['reader_rss_mib/1e6']:.0f} MiB "
        "at 10^6.",
        fontsize=10,
    )
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
