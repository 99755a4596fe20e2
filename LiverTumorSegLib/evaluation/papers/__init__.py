"""Tables laid out as the LiTS challenge and the five papers print theirs, one file each.

A paper's own figures stand beside ours only where the user says that the cases are the paper's; otherwise a line says
what the paper's data were. None of the papers publishes which cases it tested on.
"""

from __future__ import annotations

import dataclasses

from ..summary import Summary
from ..tables import Table
from . import lits, s0, s1, s2, s3, s4
from .layout import Layout

LAYOUTS: dict[str, Layout] = {
    "lits": lits.LAYOUT,
    "S0": s0.LAYOUT,
    "S1": s1.LAYOUT,
    "S2": s2.LAYOUT,
    "S3": s3.LAYOUT,
    "S4": s4.LAYOUT,
}
"""What can be asked for -> how it is printed."""


def paper_tables(key: str, summary: Summary, same_data: bool = False) -> list[Table]:
    """The tables of one paper.

    Args:
        key: of `LAYOUTS`.
        summary: of all cases.
        same_data: whether the cases are those of the paper, so that its figures belong beside ours.
    """
    layout = LAYOUTS[key]
    tables = layout.tables(summary)
    shown = same_data and bool(layout.printed)
    if shown:
        printed = layout.printed
        tables = [dataclasses.replace(table, rows=(*table.rows, *printed.get(table.title, ()))) for table in tables]
    reason = "shown because the cases were said to be the same" if shown else "not shown, since these are other data"
    note = f"Laid out as {layout.source}. Its figures were computed on {layout.data}; they are {reason}."
    return [*tables[:-1], dataclasses.replace(tables[-1], notes=(*tables[-1].notes, note))]
