"""S1, HighResNet cascade: tables 1 and 2, the confusion matrix of lesions, and the seconds a volume."""

from __future__ import annotations

import dataclasses

from ..summary import Structure, Summary
from ..tables import Table, number, plus_minus
from .layout import ONLY_WITH_BUNDLE, Layout

SUBJECTS: tuple[tuple[Structure, str], ...] = (("liver", "Liver"), ("tumour", "Tumors"))
MEASURES = ("sensitivity", "precision", "dice")

_TITLE = "S1, tables 1 and 2"


def tables(summary: Summary) -> list[Table]:
    """Voxels, lesions and time."""
    return [_voxels(summary), _lesions(summary), _time(summary)]


def _voxels(summary: Summary) -> Table:
    rows = tuple(
        ("ours", title, *(plus_minus(summary.mask(structure, name)) for name in MEASURES))
        for structure, title in SUBJECTS
    )
    notes = (
        "Mean ± SD over cases; S1's own tumour Dice leaves out tumours that were missed, ours counts them.",
        "Table 1 compares networks, and stage 1 with the whole: one bundle each, see --against. "
        "Figure 7, the Dice of each case, is in cases.csv and on the page.",
    )
    return Table(_TITLE, ("Network", "Subject", "Sensitivity", "Precision", "Dice"), rows, notes)


def _lesions(summary: Summary) -> Table:
    d = summary.detection("half")
    rows = (("tumor", str(d.found), str(d.missed)), ("no tumor", str(d.false), "–"))
    heads = ("In the reference", "predicted", "not predicted")
    return Table("S1, figure 8", heads, rows, ("A lesion is found when half of it is.",))


def _time(summary: Summary) -> Table:
    costs, shown, note = summary.costs, "–", ONLY_WITH_BUNDLE
    if costs is not None:
        whole = dataclasses.replace(costs.seconds, value=costs.seconds.value + costs.opening_seconds)
        shown = plus_minus(whole, 2)
        note = f"Over {whole.count} cases on {costs.device}; loading took {number(costs.opening_seconds, 2)} s of it."
    corrections = "Minutes of correction are what a correction session measures (`livertumorseg study`)."
    title = "S1, section 4: seconds a volume, loading the model included"
    return Table(title, ("Network", "Seconds"), (("ours", shown),), (note, corrections))


LAYOUT = Layout(
    "S1, tables 1 and 2 and figure 8",
    "T1-weighted MR scans of its own (validation, and test sets #1 and #2)",
    tables,
    {
        _TITLE: (
            ("S1, 3D U-Net stage 1, validation", "Liver", "0.940 ± 0.007", "0.775 ± 0.110", "0.834 ± 0.054"),
            ("S1, 3D U-Net stage 1, validation", "Tumors", "0", "0", "0"),
            ("S1, 3D U-Net, validation", "Liver", "0.995 ± 0.007", "0.873 ± 0.124", "0.930 ± 0.077"),
            ("S1, 3D U-Net, validation", "Tumors", "0.167 ± 0.421", "0.051 ± 0.412", "0.093 ± 0.365"),
            ("S1, V-Net stage 1, validation", "Liver", "0.871 ± 0.079", "0.589 ± 0.141", "0.693 ± 0.099"),
            ("S1, V-Net stage 1, validation", "Tumors", "0", "0", "0"),
            ("S1, V-Net, validation", "Liver", "0.975 ± 0.026", "0.762 ± 0.147", "0.848 ± 0.099"),
            ("S1, V-Net, validation", "Tumors", "0.328 ± 0.460", "0.385 ± 0.382", "0.275 ± 0.358"),
            ("S1, SegResNet stage 1, validation", "Liver", "0.916 ± 0.062", "0.746 ± 0.102", "0.815 ± 0.046"),
            ("S1, SegResNet stage 1, validation", "Tumors", "0", "0", "0"),
            ("S1, SegResNet, validation", "Liver", "0.992 ± 0.008", "0.796 ± 0.112", "0.879 ± 0.716"),
            ("S1, SegResNet, validation", "Tumors", "0.663 ± 0.339", "0.692 ± 0.226", "0.655 ± 0.281"),
            ("S1, HighResNet stage 1, validation", "Liver", "0.994 ± 0.003", "0.859 ± 0.044", "0.919 ± 0.026"),
            ("S1, HighResNet stage 1, validation", "Tumors", "0.948 ± 0.209", "0.351 ± 0.156", "0.488 ± 0.153"),
            ("S1, HighResNet, validation", "Liver", "0.988 ± 0.008", "0.896 ± 0.035", "0.942 ± 0.017"),
            ("S1, HighResNet, validation", "Tumors", "0.915 ± 0.258", "0.510 ± 0.165", "0.626 ± 0.134"),
            ("S1, HighResNet, test #1", "Liver", "0.988 ± 0.003", "0.903 ± 0.019", "0.944 ± 0.009"),
            ("S1, HighResNet, test #1", "Tumors", "0.832 ± 0.163", "0.699 ± 0.124", "0.780 ± 0.119"),
            ("S1, HighResNet, test #2, corrected", "Liver", "0.996 ± 0.003", "0.993 ± 0.006", "0.994 ± 0.003"),
            ("S1, HighResNet, test #2, corrected", "Tumors", "0.667 ± 0.257", "0.882 ± 0.146", "0.709 ± 0.171"),
        ),
        "S1, figure 8": (
            ("tumor, S1, test #1", "15", "2"),
            ("no tumor, S1, test #1", "2", "–"),
            ("tumor, S1, test #2", "6", "3"),
            ("no tumor, S1, test #2", "0", "–"),
        ),
        "S1, section 4: seconds a volume, loading the model included": (
            ("S1, 3D U-Net, validation", "6.12 ± 1.34"),
            ("S1, V-Net, validation", "5.41 ± 0.99"),
            ("S1, SegResNet, validation", "6.08 ± 1.04"),
            ("S1, HighResNet, validation", "5.29 ± 0.95"),
            ("S1, HighResNet, test #1", "4.82 ± 1.30"),
            ("S1, HighResNet, test #2", "5.35 ± 1.25"),
        ),
    },
)
