"""A stand-in for qMRMLSegmentsTableView: the segments of a segmentation, with their colours."""

from __future__ import annotations

from typing import ClassVar

import slicer
from PySide6.QtCore import QSignalBlocker, Qt, Signal
from PySide6.QtGui import QColor, QIcon, QPixmap
from PySide6.QtWidgets import QAbstractItemView, QHeaderView, QTableWidget, QTableWidgetItem, QVBoxLayout

from .mrml_widgets import Watch, qMRMLWidget
from .ui_loader import for_designer, stored

SEGMENT_CHANGES = ("SegmentAdded", "SegmentRemoved", "SegmentModified", "SegmentsOrderModified")
ROW = 24  # pixels


@for_designer
class qMRMLSegmentsTableView(qMRMLWidget):
    selectionChanged = Signal(object, object)
    cppSignals: ClassVar = {"selectionChanged(QItemSelection,QItemSelection)": "selectionChanged"}
    headerVisible, setHeaderVisible = stored("headerVisible", bool, True)
    readOnly, setReadOnly = stored("readOnly", bool, False)
    visibilityColumnVisible, setVisibilityColumnVisible = stored("visibilityColumnVisible", bool, True)
    colorColumnVisible, setColorColumnVisible = stored("colorColumnVisible", bool, True)
    opacityColumnVisible, setOpacityColumnVisible = stored("opacityColumnVisible", bool, True)
    statusColumnVisible, setStatusColumnVisible = stored("statusColumnVisible", bool, False)
    filterBarVisible, setFilterBarVisible = stored("filterBarVisible", bool, False)

    def __init__(self, parent=None) -> None:
        super().__init__(parent)
        self._table = QTableWidget(0, 2, self)
        self._table.setHorizontalHeaderLabels(["Colour", "Name"])
        self._table.horizontalHeader().setSectionResizeMode(1, QHeaderView.Stretch)
        self._table.setColumnWidth(0, 60)
        self._table.verticalHeader().hide()
        self._table.setSelectionBehavior(QAbstractItemView.SelectRows)
        self._table.setEditTriggers(QAbstractItemView.NoEditTriggers)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self._table)
        self._node = None
        self._watch = Watch(self, "settle")
        self._table.itemSelectionChanged.connect(lambda: self.selectionChanged.emit(None, None))

    def segmentationNode(self):
        return self._node

    def setSegmentationNode(self, node) -> None:
        self._watch.stop()
        self._node = node
        if node is not None:
            self._watch.start(node, *(getattr(slicer.vtkSegmentation, name) for name in SEGMENT_CHANGES))
        self.settle()

    def settle(self) -> None:
        segments = self._node.GetSegmentation() if self._node is not None else None
        ids = list(segments.GetSegmentIDs()) if segments is not None else []
        selected = self.selectedSegmentIDs()
        with QSignalBlocker(self._table):
            self._table.setRowCount(len(ids))
            for row, segment_id in enumerate(ids):
                segment = segments.GetSegment(segment_id)
                swatch = QPixmap(14, 14)
                swatch.fill(QColor.fromRgbF(*segment.GetColor()))
                name = QTableWidgetItem(segment.GetName())
                name.setData(Qt.UserRole, segment_id)
                self._table.setItem(row, 0, QTableWidgetItem(QIcon(swatch), ""))
                self._table.setItem(row, 1, name)
                self._table.setRowHeight(row, ROW)
            self.select([each for each in selected if each in ids])

    def selectedSegmentIDs(self) -> list[str]:
        rows = sorted({index.row() for index in self._table.selectedIndexes()})
        return [self._table.item(row, 1).data(Qt.UserRole) for row in rows]

    def setSelectedSegmentIDs(self, segment_ids) -> None:
        self.select(list(segment_ids))

    def select(self, segment_ids: list[str]) -> None:
        self._table.clearSelection()
        for row in range(self._table.rowCount):
            if self._table.item(row, 1).data(Qt.UserRole) in segment_ids:
                self._table.selectRow(row)
