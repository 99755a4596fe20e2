"""What a correction session adds to a stroke in Slicer: 512 x 512 x 200 voxels, a liver with 20 lesions.

    python Testing/Benchmarks/bench_correction.py [--strokes 40]

Medians over strokes of the Segment Editor's own logic, without a window. On a computer that does other things, two
strokes differ by more than a session adds; so what it adds is timed by itself too: counting voxels, and noting them.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "Python"))

from bench_scene import SIZE, draw_result, show

from LiverTumorSegLib import scene
from LiverTumorSegLib.correction.reading import Reading
from LiverTumorSegLib.correction.session import CorrectionSession
from LiverTumorSegLib.scene import editing
from LiverTumorSegLib.scene.changes import change_between
from LiverTumorSegLib.segmentation import Segmentation
from slicer_host.application import start
from slicer_host.nodes import Editor

GOAL_S = 0.005


def main() -> None:
    """Run everything and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--strokes", type=int, default=40)
    strokes = parser.parse_args().strokes
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        application = start(Path(folder))
        result = draw_result()
        volume = scene.add_volume(result.image, application.scene, "CT")
        print(f"{SIZE} voxels, {len(result.lesions)} lesions, medians of {strokes} strokes\n")
        print(f"{'':<58}{'seconds':>9}{'goal':>7}")
        times = {False: Strokes(application, result, volume, None)}
        times[True] = Strokes(application, result, volume, Path(folder) / "session")
        for number in range(strokes + 2):
            for each in (times[False], times[True])[:: 1 if number % 2 else -1]:
                each.paint_and_erase()
        pairs = zip(times[True].taken[2:], times[False].taken[2:], strict=True)
        show("a stroke, with LiverKeeper", statistics.median(times[False].taken[2:]))
        show("  more with a session, median difference", statistics.median(a - b for a, b in pairs), GOAL_S)
        show("  its own code: counting voxels", statistics.median(times[True].counting[4:]), GOAL_S)
        show("  its own code: noting the edit", statistics.median(times[True].noting[4:]), GOAL_S)
        finish(times[True])


class Strokes:
    """Paints and erases a cube of 10 voxels in the largest lesion, again and again, with a session or without."""

    def __init__(self, application: object, result: Segmentation, volume: object, folder: Path | None) -> None:
        self.volume, self.node = volume, scene.add_segmentation(volume)
        scene.write_segmentation(result, self.node, volume, separate_lesions=True)
        self.node.RemoveClosedSurfaceRepresentation()
        self.editor = Editor(application, self.node, volume)
        self.taken: list[float] = []
        self.counting: list[float] = []
        self.noting: list[float] = []
        self.session: CorrectionSession | None = None
        told = None
        if folder is not None:
            self.session = CorrectionSession(result, folder, Reading("R1", "c1"))
            self.session.start()
            self.watch = scene.SessionWatch(self.session, self.node, self.editor.parameters)
            told, editing.change_between = self._timed_change, self._count
        self.keeper = scene.LiverKeeper(self.node, told)
        voxels = scene.lesions_in(self.node, volume)[0].voxels
        self.box = tuple(slice(a + 8, a + 18) for a in voxels.start[::-1])

    def paint_and_erase(self) -> None:
        """Two strokes; the second one is timed."""
        self.editor.paint("tumour_1", self.box)
        began = time.perf_counter()
        self.editor.erase("tumour_1", self.box)
        self.taken.append(time.perf_counter() - began)

    def _timed_change(self, change: scene.Change) -> None:
        began = time.perf_counter()
        self.watch.changed(change)
        self.noting.append(time.perf_counter() - began)

    def _count(self, *arguments: object) -> scene.Change | None:
        began = time.perf_counter()
        change = change_between(*arguments)
        self.counting.append(time.perf_counter() - began)
        return change


def finish(strokes: Strokes) -> None:
    """The end: labels from the scene, comparison, files."""
    session = strokes.session
    assert session is not None
    began = time.perf_counter()
    labels = scene.labels_from_segmentation(strokes.node, strokes.volume)
    session.dice(labels)
    show("Dice on demand", time.perf_counter() - began)
    began = time.perf_counter()
    session.finish(labels)
    show("finish", time.perf_counter() - began)


if __name__ == "__main__":
    main()
