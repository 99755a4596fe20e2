"""Filling the panel's tables and combo boxes; Qt comes through Slicer's module `qt`, imported when it is used.

PythonQt's rules: a Qt property is an attribute, enumerations are found on their class.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

Widget = Any


class Choices:
    """A combo box whose entries come and go, tied to a text: the entry's value, which need not be its label.

    `parameterNodeWrapper` ties combo boxes to fixed choices only.
    """

    def __init__(self, combo: Widget, on_chosen: Callable[[str], None]) -> None:
        """Args: the box, and whom to tell the value that the user has chosen."""
        self._combo, self._on_chosen = combo, on_chosen
        self._values: list[str] = []
        self._filling = False
        combo.connect("currentIndexChanged(int)", self._changed)

    def fill(self, entries: Sequence[tuple[str, str]], value: str) -> None:
        """Offer (value, label) pairs; a current value that is none of them stays as an entry of its own."""
        self._filling = True
        self._combo.clear()
        self._values = []
        for each, label in entries:
            self._add(each, label)
        self._filling = False
        self.show(value)

    def show(self, value: str) -> None:
        """Make this the current entry, without telling anybody."""
        self._filling = True
        if value not in self._values:
            self._add(value, f"{value} (not here)")
        self._combo.setCurrentIndex(self._values.index(value))
        self._filling = False

    def _add(self, value: str, label: str) -> None:
        self._values.append(value)
        self._combo.addItem(label)

    def _changed(self, index: int) -> None:
        if not self._filling and 0 <= index < len(self._values):
            self._on_chosen(self._values[index])


ROW_PIXELS, MOST_ROWS = 24, 8


def set_up_table(table: Widget, headers: Sequence[str], stretched: int) -> None:
    """Columns as wide as their contents; the one of that number takes the rest."""
    import qt

    table.setColumnCount(len(headers))
    table.setHorizontalHeaderLabels(list(headers))
    table.verticalHeader().setVisible(False)
    table.verticalHeader().setDefaultSectionSize(ROW_PIXELS)
    header = table.horizontalHeader()
    header.setHighlightSections(False)
    header.setMinimumSectionSize(24)
    for column in range(len(headers)):
        how = qt.QHeaderView.Stretch if column == stretched else qt.QHeaderView.ResizeToContents
        header.setSectionResizeMode(column, how)


def fill_table(table: Widget, rows: Sequence[Sequence[str]], numeric: int = 0, faint: Sequence[int] = ()) -> None:
    """Show texts; the current row stays.

    Args:
        table: a QTableWidget.
        rows: the texts.
        numeric: how many columns, from the left, are aligned to the right.
        faint: rows that are struck out.
    """
    import qt

    current = table.currentRow()
    blocked = table.blockSignals(True)
    table.setRowCount(len(rows))
    for number, texts in enumerate(rows):
        for column, text in enumerate(texts):
            item = qt.QTableWidgetItem(text)
            side = qt.Qt.AlignRight if column < numeric else qt.Qt.AlignLeft
            item.setTextAlignment(side | qt.Qt.AlignVCenter)
            if number in faint:
                font = qt.QFont()
                font.setStrikeOut(column < len(texts) - 1)
                item.setFont(font)
            item.setToolTip(text)
            table.setItem(number, column, item)
    if 0 <= current < len(rows):
        table.setCurrentCell(current, 0)
    table.blockSignals(blocked)
    # As high as its rows, up to a limit; a table that takes what is left pushes the sections below it about.
    rows_high = ROW_PIXELS * min(len(rows), MOST_ROWS)
    table.setFixedHeight(table.horizontalHeader().height + rows_high + 2 * table.frameWidth)
