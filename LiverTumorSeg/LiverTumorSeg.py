"""LiverTumorSeg: liver and liver tumours in CT and MR. Wiring only; the work is done by LiverTumorSegLib.

From Slicer's Python console:

    segmentationNode = LiverTumorSeg.LiverTumorSegLogic().segment(getNode("CT"))
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import slicer
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)

# An installed extension has the library beside this file, a source checkout in the folder above.
if importlib.util.find_spec("LiverTumorSegLib") is None:
    sys.path.append(str(Path(__file__).resolve().parents[1]))

Progress = Callable[[str, float], None]


class LiverTumorSeg(ScriptedLoadableModule):
    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = "LiverTumorSeg"
        parent.categories = ["Segmentation"]
        parent.dependencies = []
        parent.contributors = ["LiverTumorSeg developers"]
        parent.helpText = (
            "Segments the liver and its tumours in a CT or MR scan with a cascade of networks. "
            "Choose a volume and press Apply. For research only; not a medical device."
        )
        parent.acknowledgementText = "The methods and the papers they come from are named in the README."


class LiverTumorSegWidget(ScriptedLoadableModuleWidget):
    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        self.logic = LiverTumorSegLogic()
        panel = slicer.util.loadUI(self.resourcePath("UI/LiverTumorSeg.ui"))
        self.layout.addWidget(panel)
        self.ui = slicer.util.childWidgetVariables(panel)
        panel.setMRMLScene(slicer.mrmlScene)
        self.ui.volumeSelector.connect("currentNodeChanged(vtkMRMLNode*)", self.updateApplyButton)
        self.ui.applyButton.connect("clicked(bool)", self.onApply)
        self.updateApplyButton()

    def updateApplyButton(self, node=None):
        self.ui.applyButton.enabled = self.ui.volumeSelector.currentNode() is not None

    def onApply(self, checked=False):
        self.ui.applyButton.enabled = False
        outcome = "Nothing was segmented."
        try:
            with slicer.util.tryWithErrorDisplay("The scan could not be segmented."):
                self.logic.installRequirements(self.resourcePath("requirements.txt"))
                with slicer.util.WaitCursor():
                    outcome = self.segmentSelected()
        finally:
            self.ui.statusLabel.text = outcome
            self.updateApplyButton()

    def segmentSelected(self) -> str:
        segmentationNode = self.logic.segment(
            self.ui.volumeSelector.currentNode(),
            bundle=self.ui.bundleLineEdit.text.strip() or "default",
            progress=self.showProgress,
        )
        warnings = segmentationNode.GetAttribute("LiverTumorSeg.Warnings") or ""
        return f"Done: {segmentationNode.GetName()}.\n{warnings}".strip()

    def showProgress(self, step: str, share: float):
        import qt

        self.ui.statusLabel.text = f"{step}: {share:.0%}. Slicer does not respond until this is done."
        # The text is to be seen, but a click must not start a second run or close the scene under this one.
        slicer.app.processEvents(qt.QEventLoop.ExcludeUserInputEvents)


class LiverTumorSegLogic(ScriptedLoadableModuleLogic):
    def segment(
        self,
        volumeNode,
        segmentationNode=None,
        bundle: str = "default",
        device: str = "auto",
        sensitivity: float = 1.0,
        progress: Progress | None = None,
    ):
        """Segment liver and tumours; blocks until it is done, and needs no window.

        Args:
            volumeNode: scalar volume of any scene.
            segmentationNode: where the segments go: empty, or as an earlier run left it. By default a new node.
            bundle: name or folder of a bundle.
            device: "auto", "cpu", "cuda", "cuda:1" or "mps".
            sensitivity: above 1 calls lesions more readily, below 1 less.
            progress: told the step under way and the share of it that is done, 0 to 1.

        Returns:
            The vtkMRMLSegmentationNode.

        Raises:
            LiverTumorSegError: one line that says what was wanted and what was found.
        """
        from LiverTumorSegLib import segment
        from LiverTumorSegLib.scene import add_segmentation, image_from_volume, write_segmentation

        image = image_from_volume(volumeNode)
        segmentation = segment(image, bundle, device=device, sensitivity=sensitivity, progress=progress)
        if segmentationNode is None:
            segmentationNode = add_segmentation(volumeNode)
        write_segmentation(segmentation, segmentationNode, volumeNode)
        return segmentationNode

    @staticmethod
    def installRequirements(requirementsPath: str):
        """Install what is missing, after asking.

        Raises:
            RuntimeError: there is no PyTorch extension, or installing was declined.
        """
        try:
            import PyTorchUtils
        except ModuleNotFoundError as error:
            raise RuntimeError("Slicer's PyTorch extension is needed: get it from the Extensions Manager.") from error
        # First, as MONAI would bring a build of it that may not suit this computer.
        torchLogic = PyTorchUtils.PyTorchUtilsLogic()
        if not torchLogic.torchInstalled() and torchLogic.installTorch(askConfirmation=True) is None:
            raise RuntimeError("PyTorch is needed, and installing it was declined.")
        import slicer.packaging

        slicer.packaging.pip_ensure(slicer.packaging.load_requirements(requirementsPath), requester="LiverTumorSeg")


class LiverTumorSegTest(ScriptedLoadableModuleTest):
    """Segments a synthetic abdomen with known liver and tumours; needs PyTorch and the bundle `default`."""

    def setUp(self):
        slicer.mrmlScene.Clear()

    def runTest(self):
        self.setUp()
        self.test_synthetic_abdomen()

    def test_synthetic_abdomen(self):
        from LiverTumorSegLib.evaluation.metrics import dice
        from LiverTumorSegLib.scene import add_volume, labels_from_segmentation
        from LiverTumorSegLib.training.synthesis.cases import write_case

        with tempfile.TemporaryDirectory() as folder:
            scan, truth = (sitk.ReadImage(str(path)) for path in write_case(Path(folder), "abdomen", 7, "CT", 3.0))
        volumeNode = add_volume(scan, slicer.mrmlScene, "abdomen")
        segmentationNode = LiverTumorSegLogic().segment(volumeNode)

        found = sitk.GetArrayFromImage(labels_from_segmentation(segmentationNode, volumeNode))
        wanted = sitk.GetArrayFromImage(truth)
        assert dice(wanted > 0, found > 0) > 0.8
        assert np.any((wanted == 2) & (found == 2))
        assert segmentationNode.GetAttribute("LiverTumorSeg.BundleSHA256")
        self.delayDisplay("The synthetic abdomen was segmented.")
