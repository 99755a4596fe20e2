"""The figures of a bundle's model card, as small PNG files that ship with it."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk
from holdout import Case, Score

from LiverTumorSegLib import find_lesions
from LiverTumorSegLib.calibration import BINS, Reliability
from LiverTumorSegLib.evaluation import figures
from LiverTumorSegLib.evaluation.metrics import dice
from LiverTumorSegLib.lesions import bounding_slices
from LiverTumorSegLib.matching import match_by_every_rule
from LiverTumorSegLib.outlines import outlines
from LiverTumorSegLib.segmentation import TUMOUR, Segmentation
from LiverTumorSegLib.views import CT_WINDOW_HU, MR_WINDOW_PERCENTILES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LARGEST_FILE = 150_000  # bytes; a bundle has 10 MB for everything
DOTS_PER_INCH = (150, 130, 110, 95, 80)
GREYS = 17  # in a file: noise of more costs too much
KINDS = {"missed": "Largest lesions missed", "false": "Largest false lesions", "liver": "Worst livers"}
WORST = 2  # of each kind
FIELD_MM = (300.0, 236.0)  # width and height of a slice that is shown

INK, QUIET, LINE = "#22272e", "#57606a", "#d9dee3"
FIRST, SECOND = "#0b6fa4", "#c8590b"
REFERENCE, PREDICTION = "#3ec7ff", "#ffa51f"
_STYLE: dict[str, Any] = {
    key: {figures.INK: INK, figures.QUIET: QUIET, figures.LINE: LINE}.get(value, value)
    for key, value in figures.STYLE.items()
    if not key.startswith("svg.")
} | {"figure.facecolor": "white", "axes.facecolor": "white", "font.size": 9, "axes.titlesize": 10}


def draw_reliability(path: Path, curves: Mapping[str, Reliability], scans: str) -> None:
    """What was said of voxels and what was true, one curve a bundle, over how many voxels there were.

    Args:
        path: the PNG file.
        curves: by the bundles' names; the first one is drawn as what was before, if there are two.
        scans: on what, for the title.
    """
    with _figure(5.0, 5.4) as figure:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3.2, 1))
        upper.plot([0, 1], [0, 1], color=QUIET, lw=1, ls=(0, (4, 3)), label="as often right as said")
        colours = _colours(len(curves))
        width = 0.8 / BINS / len(curves)
        for n, ((name, curve), colour) in enumerate(zip(curves.items(), colours, strict=True)):
            said, true = ([point[n] for point in curve.points()] for n in (0, 1))
            error = f"{name}: expected calibration error {curve.expected_error():.3f}"
            upper.plot(said, true, "o-", color=colour, ms=4.5, lw=1.6, label=error, clip_on=False, zorder=3)
            places = (np.arange(BINS) + 0.5) / BINS + (n - (len(curves) - 1) / 2) * width
            lower.bar(places, curve.counts, width * 0.92, color=colour)
        upper.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="share that is tumour")
        upper.set_title(f"How far to believe the tumour's probability\n{scans}", loc="left")
        upper.legend(loc="upper left", fontsize=8, frameon=True, framealpha=1, edgecolor="none", borderpad=0.2)
        lower.set(ylabel="voxels", xlabel="probability of tumour that was said")
        lower.set_yscale("symlog", linthresh=1)
        most = max(float(curve.counts.max()) for curve in curves.values())
        ticks = [10.0**n for n in range(8) if 10**n <= max(most, 1) * 3]
        lower.set_yticks(ticks, [f"{tick:,.0f}" for tick in ticks])
        lower.set_yticks([], minor=True)
        lower.set_ylim(1, max(most, 1) * 3)
        lower.set_xticks(np.arange(0, 1.01, 0.2))
        lower.grid(visible=False, axis="x")
        note = (
            "Voxels that were found as liver or tumour; the error is over those\n"
            "from 0.1 up, since nearly all others are surely liver."
        )
        figure.supxlabel(note, fontsize=7.5, color=QUIET)
        _save(figure, path)


def draw_froc(path: Path, name: str, scores: Mapping[float, Score], scans: str) -> None:
    """Lesions found over false ones a scan at each sensitivity factor, all of them and those from 10 mm.

    Args:
        path: the PNG file.
        name: of the bundle.
        scores: by factor.
        scans: on what, for the title.
    """
    factors = sorted(scores)
    across = [scores[factor].false_per_scan() for factor in factors]
    with _figure(4.9, 3.7) as figure:
        axes = figure.subplots()
        for from_mm, colour, mark in ((10, SECOND, "s"), (0, FIRST, "o")):
            up = [scores[factor].recall(from_mm) for factor in factors]
            count = scores[factors[0]].lesions(from_mm)
            label = f"{'all lesions' if from_mm == 0 else f'lesions from {from_mm} mm'} ({count})"
            axes.plot(across, up, "-", color=colour, lw=1.6, label=label, marker=mark, ms=4.5)
            one = factors.index(1.0)
            axes.plot(across[one], up[one], mark, color="white", mec=colour, mew=1.6, ms=7.5)
            if from_mm == 10:
                for factor, place in zip(factors, zip(across, up, strict=True), strict=True):
                    axes.annotate(
                        f"{factor:g}", place, (-7, 4), textcoords="offset points", fontsize=8, color=QUIET, ha="right"
                    )
        figures.froc_axes(axes, max(across))
        axes.set_xlabel("false lesions a scan")
        axes.set_title(f"{name}: sensitivity factors (numbers; hollow: 1)\n{scans}", loc="left")
        axes.legend(loc="upper left", fontsize=8)
        _save(figure, path)


@dataclass(frozen=True)
class Failure:
    """A slice of a scan on which something went wrong.

    Attributes:
        worse: the larger, the worse among those of its kind.
        label: one line for people.
        grey: uint8 (rows, columns), windowed; the patient's right on the left.
        reference, prediction: labels there.
        edge_mm: of a pixel.
    """

    worse: float
    label: str
    grey: np.ndarray
    reference: np.ndarray
    prediction: np.ndarray
    edge_mm: float


@dataclass
class Gallery:
    """The worst failures of each kind so far, at most one of a kind from a scan."""

    failures: dict[str, list[Failure]] = field(default_factory=lambda: {kind: [] for kind in KINDS})

    def add(self, number: int, case: Case, result: Segmentation) -> None:
        """Look at one scan's segmentation; `number` is the scan's."""
        truth, predicted = (sitk.GetArrayFromImage(image) for image in (case.truth, result.labels))
        about = f"scan {number}, {case.modality}"
        matchings = match_by_every_rule(truth == TUMOUR, predicted == TUMOUR)
        half, touched = matchings["half"], matchings["overlap"].found
        for kind, image, ids in (("missed", case.truth, half.missed), ("false", result.labels, half.false_positives)):
            lesions = [each for each in find_lesions(image) if each.id in ids]
            if lesions:
                worst = max(lesions, key=lambda each: each.volume_ml)
                wrong = "no lesion" if kind == "false" else "less than half" if worst.id in touched else "missed"
                label = f"{about}: {wrong}, {worst.long_axis_mm:.0f} mm"
                self._take(kind, worst.volume_ml, label, worst.axial_slice, case, truth, predicted)
        liver, found = truth > 0, predicted > 0
        less, more = (np.count_nonzero(each) for each in (liver & ~found, found & ~liver))
        if less + more:
            index = int((liver ^ found).sum(axis=(1, 2)).argmax())
            overlap = dice(liver, found)
            wrong = "liver cut" if less >= more else "too much liver"
            self._take("liver", 1 - overlap, f"{about}: {wrong}, Dice {overlap:.2f}", index, case, truth, predicted)

    def _take(
        self, kind: str, worse: float, label: str, index: int, case: Case, truth: np.ndarray, predicted: np.ndarray
    ) -> None:
        scan = sitk.GetArrayViewFromImage(case.scan)
        low, high = CT_WINDOW_HU
        if case.modality != "CT":
            low, high = np.percentile(scan[::2, ::4, ::4], MR_WINDOW_PERCENTILES)
        rows, columns = _around(truth[index] | predicted[index], case.scan.GetSpacing()[0])
        grey = np.clip((scan[index, rows, columns] - low) * (255 / (high - low)), 0, 255).astype(np.uint8)
        shown = (labels[index, rows, columns].copy() for labels in (truth, predicted))
        self.failures[kind].append(Failure(worse, label, grey, *shown, case.scan.GetSpacing()[0]))
        self.failures[kind] = sorted(self.failures[kind], key=lambda each: -each.worse)[:WORST]


def draw_failures(path: Path, name: str, gallery: Gallery, scans: str) -> None:
    """The gallery as one picture: a column for each kind of failure.

    Args:
        path: the PNG file.
        name: of the bundle.
        gallery: at least one failure.
        scans: on what, for the title.
    """
    from matplotlib.lines import Line2D

    with _figure(8.4, 5.3) as figure:
        grid = figure.subplots(WORST, len(KINDS), squeeze=False)
        for axes in grid.flat:
            axes.set_axis_off()
        for column, (kind, title) in enumerate(KINDS.items()):
            for row, failure in enumerate(gallery.failures[kind]):
                _draw_slice(grid[row, column], failure)
            if not gallery.failures[kind]:
                grid[0, column].text(0.5, 0.5, "none", transform=grid[0, column].transAxes, ha="center", color=QUIET)
            grid[0, column].text(0.5, 1.13, title, transform=grid[0, column].transAxes, ha="center", weight="bold")
        figure.suptitle(f"What {name} got wrong: {scans}", x=0.01, ha="left", fontsize=10)
        handles = [
            Line2D([], [], color=colour, lw=width, label=label)
            for colour, width, label in (
                (REFERENCE, 1, "reference: liver"),
                (REFERENCE, 2.4, "reference: tumour"),
                (PREDICTION, 1, "prediction: liver"),
                (PREDICTION, 2.4, "prediction: tumour"),
            )
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=8)
        _save(figure, path)


def _draw_slice(axes: Axes, failure: Failure) -> None:
    height, width = (n * failure.edge_mm for n in failure.grey.shape)
    axes.imshow(failure.grey, cmap="gray", vmin=0, vmax=255, extent=(0, width, height, 0), interpolation="bilinear")
    for labels, colour in ((failure.reference, REFERENCE), (failure.prediction, PREDICTION)):
        for mask, thickness in ((labels > 0, 0.9), (labels == TUMOUR, 1.8)):
            for curve in outlines(mask):
                closed = np.vstack([curve, curve[:1]]) * failure.edge_mm
                axes.plot(*closed.T, color=colour, lw=thickness)
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.set_title(failure.label, fontsize=8, color=INK, pad=3)


def _around(mask: np.ndarray, edge_mm: float) -> tuple[slice, slice]:
    """Rows and columns of a field of `FIELD_MM` around a mask, or around the middle where there is nothing."""
    box = bounding_slices(mask) or tuple(slice(0, n) for n in mask.shape)
    parts = []
    for part, whole, wanted_mm in zip(box, mask.shape, FIELD_MM[::-1], strict=True):
        size = min(whole, round(wanted_mm / edge_mm))
        start = min(max(0, (part.start + part.stop - size) // 2), whole - size)
        parts.append(slice(start, start + size))
    return parts[0], parts[1]


def _colours(count: int) -> Sequence[str]:
    """The first one grey where something came after it."""
    return [FIRST] if count == 1 else ["#8b949e", FIRST, SECOND, INK][:count]


class _figure:  # noqa: N801
    """A figure in our style, for a `with` block."""

    def __init__(self, width: float, height: float) -> None:
        import matplotlib

        self._size = width, height
        self._context = matplotlib.rc_context(_STYLE)

    def __enter__(self) -> Figure:
        from matplotlib.figure import Figure

        self._context.__enter__()
        return Figure(figsize=self._size, layout="constrained")

    def __exit__(self, *error: Any) -> None:
        self._context.__exit__(*error)


def _save(figure: Figure, path: Path) -> None:
    """As a PNG of few colours, as sharp as `LARGEST_FILE` lets it be."""
    from PIL import Image

    palette = Image.new("P", (1, 1))
    palette.putpalette(_palette().ravel().tolist())
    for dots in DOTS_PER_INCH:
        drawn = io.BytesIO()
        figure.savefig(drawn, format="png", dpi=dots)
        few = Image.open(drawn).convert("RGB").quantize(palette=palette, dither=Image.Dither.NONE)
        written = io.BytesIO()
        few.save(written, "PNG", optimize=True)
        if written.tell() <= LARGEST_FILE:
            break
    path.write_bytes(written.getvalue())


def _palette() -> np.ndarray:
    """Greys, our colours, and what lies between them where a line's edge is: uint8 (n, 3)."""
    greys = np.repeat(np.linspace(0, 255, GREYS)[:, None], 3, axis=1)
    ours = [[int(code[n : n + 2], 16) for n in (1, 3, 5)] for code in (FIRST, SECOND, REFERENCE, PREDICTION)]
    edges = [np.mean([colour, grey], axis=0) for colour in ours for grey in greys[::4]]
    return np.array([*greys, *ours, *edges]).round().astype(np.uint8)
