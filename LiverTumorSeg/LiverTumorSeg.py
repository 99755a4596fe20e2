"""LiverTumorSeg: liver and liver tumours in CT and MR. Wiring only; the work is done by LiverTumorSegLib.

From Slicer's Python console:

    import LiverTumorSeg
    segmentationNode = LiverTumorSeg.LiverTumorSegLogic().segment(getNode("CT"))
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import SimpleITK as sitk
import slicer
import vtk
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

# An installed extension has the library beside this file, a source checkout in the folder above.
if importlib.util.find_spec("LiverTumorSegLib") is None:
    sys.path.append(str(Path(__file__).resolve().parents[1]))

Progress = Callable[[str, float], None]


class LiverTumorSeg(ScriptedLoadableModule):
    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = "LiverTumorSeg"
        parent.categories = ["Segmentation"]
        parent.dependencies = ["Segmentations", "SubjectHierarchy"]
        parent.contributors = ["LiverTumorSeg developers"]
        parent.helpText = (
            "Segments the liver and its tumours in a CT or MR scan with a cascade of networks, measures the lesions "
            "and lets you correct them. Choose a scan and press Apply. For research only; not a medical device."
        )
        parent.acknowledgementText = "The methods and the papers they come from are named in the README."
        slicer.app.connect("startupCompleted()", registerSampleData)


def registerSampleData():
    """Offer the synthetic abdomen in the module Sample Data; it is drawn on this computer, nothing is downloaded."""
    import SampleData

    from LiverTumorSegLib.panel import sample

    packages = Packages(str(Path(__file__).parent / "Resources" / "requirements.txt"))
    SampleData.SampleDataLogic.registerCustomSampleDataSource(
        category="LiverTumorSeg",
        sampleName=sample.NAME,
        thumbnailFileName=str(Path(__file__).parent / "Resources" / "Icons" / "SyntheticAbdomen.png"),
        uris="",
        fileNames=sample.FILE,
        nodeNames=sample.NAME,
        checksums=sample.CHECKSUM,
        customDownloader=lambda source: sample.offer(slicer.mrmlScene, packages),
    )


@parameterNodeWrapper
class LiverTumorSegParameters:
    """Everything that the panel remembers; it is saved with the scene."""

    inputVolume: slicer.vtkMRMLScalarVolumeNode
    segmentation: slicer.vtkMRMLSegmentationNode
    modality: str = "auto"
    bundle: str = "default"
    device: str = "auto"
    separateLesions: bool = False
    sensitivity: Annotated[float, WithinRange(0.2, 5.0)] = 1.0
    exportSegNrrd: bool = True
    exportNifti: bool = True
    exportStl: bool = False
    exportObj: bool = False
    exportCsv: bool = True
    batchSource: str = "scene"
    batchFolder: str = ""
    batchOutput: str = ""
    readerCode: str = ""
    caseCode: str = ""
    sessionFolder: str = ""


class LiverTumorSegWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    def __init__(self, parent=None):
        VTKObservationMixin.__init__(self)
        self.panel = self.connected = None
        ScriptedLoadableModuleWidget.__init__(self, parent)

    def setup(self):
        from LiverTumorSegLib.panel.bundles import InstalledBundles
        from LiverTumorSegLib.panel.panel import Panel
        from LiverTumorSegLib.scene import export_dicom

        ScriptedLoadableModuleWidget.setup(self)
        self.logic = LiverTumorSegLogic()
        controls = slicer.util.loadUI(self.resourcePath("UI/LiverTumorSeg.ui"))
        self.layout.addWidget(controls)
        self.ui = slicer.util.childWidgetVariables(controls)
        scene = slicer.mrmlScene
        controls.setMRMLScene(scene)
        self.panel = Panel(self.ui, scene, InstalledBundles(), self.makeCollaborators, export_dicom)
        self.addObserver(scene, scene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(scene, scene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(scene, scene.EndImportEvent, self.onSceneEndImport)
        self.addObserver(scene, scene.NodeAboutToBeRemovedEvent, self.onNodeAboutToBeRemoved)
        self.initializeParameterNode()
        if self.parent.isEntered:  # read anew while it is open
            self.panel.enter()

    def makeCollaborators(self, saveForUndo):
        """The one place where the panel gets its process, timer, clock, installer and message boxes."""
        from LiverTumorSegLib.panel.client import WorkerClient, worker_command
        from LiverTumorSegLib.panel.collaborators import Collaborators, SessionTools
        from LiverTumorSegLib.panel.process import QtProcess, QtTimer
        from LiverTumorSegLib.panel.windows import hear_focus
        from LiverTumorSegLib.scene import centre_3d, view_interactors

        timer = QtTimer()
        python = shutil.which("PythonSlicer") or sys.executable
        return Collaborators(
            client=WorkerClient(QtProcess, timer, worker_command(python)),
            timer=timer,
            clock=time.monotonic,
            installer=Packages(self.resourcePath("requirements.txt")),
            messages=MessageBoxes(),
            save_for_undo=saveForUndo,
            centre_3d=centre_3d,
            new_selector=slicer.qMRMLNodeComboBox,
            sessions=SessionTools(
                interactors=view_interactors,
                busy=slicer.util.WaitCursor,
                hear_focus=partial(hear_focus, slicer.app),
            ),
        )

    def enter(self):
        self.initializeParameterNode()
        self.panel.enter()

    def exit(self):
        self.panel.exit()

    def cleanup(self):
        """Slicer closes, or reads the module anew; may be called twice."""
        if self.panel is not None:
            self.detachParameters()
            self.disconnectControls()
            self.panel.close()
            self.panel = None
        self.removeObservers()

    def onReload(self):
        """The developer's button: the library is read anew as well."""
        self.cleanup()
        for name in [name for name in sys.modules if name.partition(".")[0] == "LiverTumorSegLib"]:
            del sys.modules[name]
        super().onReload()

    def onSceneStartClose(self, caller, event):
        self.detachParameters()
        self.panel.scene_closes()

    def onSceneEndClose(self, caller, event):
        self.panel.scene_closed()
        if self.parent.isEntered:
            self.initializeParameterNode()

    def onSceneEndImport(self, caller, event):
        self.initializeParameterNode()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def onNodeAboutToBeRemoved(self, caller, event, node):
        self.panel.node_removed(node)

    def initializeParameterNode(self):
        """Work with the scene's parameter node, which a loaded scene or the end of one may have exchanged."""
        self.detachParameters()
        parameters = self.logic.getParameterNode()
        if parameters is self.connected:
            parameters.Modified()  # values that the scene changed unheard
        else:
            self.connectControls(parameters)
        self.panel.attach(parameters)
        # Not by the mixin, which keeps what it has observed, and what that observes, for as long as the panel lives.
        self.parametersTag = parameters.AddObserver(vtk.vtkCommand.ModifiedEvent, self.onParametersModified)

    def detachParameters(self):
        parameters = self.panel.parameters
        if parameters is not None:
            parameters.RemoveObserver(self.parametersTag)
            self.panel.attach(None)

    def connectControls(self, parameters):
        """Tie the controls to these parameters, once: what observes for it stays, and connectGui gives no tag."""
        self.disconnectControls()
        named = {each.property("SlicerParameterName"): each for each in vars(self.ui).values()}
        named.pop(None, None)
        self.guiTag, self.connected = parameters.connectParametersToGui(named), parameters

    def disconnectControls(self):
        if self.connected is not None:
            self.connected.disconnectGui(self.guiTag)
            self.connected = None

    def onParametersModified(self, caller, event):
        self.panel.parameters_changed()


class Packages:
    """Installs what the networks need, after asking; the panel's `Installer`."""

    def __init__(self, requirementsPath: str):
        self.requirementsPath = requirementsPath
        self.busy = False

    def ensure(self):
        if self.busy:  # the event loop runs meanwhile, and every button with it
            raise RuntimeError("Python packages are being installed; wait until that is done.")
        self.busy = True
        try:
            LiverTumorSegLogic.installRequirements(self.requirementsPath)
        finally:
            self.busy = False


class MessageBoxes:
    """Slicer's and Qt's boxes; the panel's `Messages`."""

    def ask(self, question: str) -> bool:
        return bool(slicer.util.confirmYesNoDisplay(question, windowTitle="LiverTumorSeg"))

    def choose_folder(self, title: str) -> Path | None:
        import qt

        chosen = qt.QFileDialog.getExistingDirectory(slicer.util.mainWindow(), title)
        return Path(chosen) if chosen else None

    def choose_file(self, title: str, patterns: Sequence[str]) -> Path | None:
        import qt

        chosen = qt.QFileDialog.getOpenFileName(slicer.util.mainWindow(), title, "", f"({' '.join(patterns)})")
        return Path(chosen) if chosen else None

    def show_folder(self, folder: Path):
        import qt

        qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(folder)))


class LiverTumorSegLogic(ScriptedLoadableModuleLogic):
    """For the console and for other modules; blocks until the work is done, and needs no window."""

    def __init__(self):
        ScriptedLoadableModuleLogic.__init__(self)
        self.kept = self.parameters = None

    def getParameterNode(self):
        node = super().getParameterNode()
        if self.parameters is None or self.parameters.parameterNode is not node:
            self.parameters = LiverTumorSegParameters(node)
        return self.parameters

    def segment(
        self,
        volumeNode,
        segmentationNode=None,
        bundle: str = "default",
        device: str = "auto",
        sensitivity: float = 1.0,
        separateLesions: bool = False,
        progress: Progress | None = None,
        phases: dict[str, slicer.vtkMRMLScalarVolumeNode] | None = None,
    ):
        """Segment liver and tumours.

        Args:
            volumeNode: scalar volume of any scene.
            segmentationNode: where the segments go: empty, or as an earlier run left it. By default a new node.
            bundle: name or folder of a bundle.
            device: "auto", "cpu", "cuda", "cuda:1" or "mps".
            sensitivity: above 1 calls lesions more readily, below 1 less.
            separateLesions: a segment for each lesion.
            progress: told the step under way and the share of it that is done, 0 to 1.
            phases: further scans of the study by the names that the bundle gives them, registered if its recipe asks.

        Returns:
            The vtkMRMLSegmentationNode.

        Raises:
            LiverTumorSegError: one line that says what was wanted and what was found.
        """
        from LiverTumorSegLib import segment
        from LiverTumorSegLib.scene import add_segmentation, check_target, image_from_volume, write_segmentation

        if segmentationNode is not None:
            check_target(segmentationNode, volumeNode)
        image = image_from_volume(volumeNode)
        others = {name: image_from_volume(node) for name, node in (phases or {}).items()}
        segmentation = segment(image, bundle, phases=others, device=device, sensitivity=sensitivity, progress=progress)
        if segmentationNode is None:
            segmentationNode = add_segmentation(volumeNode)
        self.kept = (segmentation, segmentationNode, volumeNode)
        write_segmentation(segmentation, segmentationNode, volumeNode, separate_lesions=separateLesions)
        return segmentationNode

    def redraw(self, sensitivity: float):
        """Draw the latest `segment` at another sensitivity, without the networks; takes a fraction of a second.

        Raises:
            LiverTumorSegError: nothing was segmented yet, or a person has edited the segments since.
        """
        from LiverTumorSegLib import LiverTumorSegError
        from LiverTumorSegLib.scene import redraw

        if self.kept is None:
            raise LiverTumorSegError("redraw: wanted a result of segment(), got none yet")
        segmentation, segmentationNode, volumeNode = self.kept
        redraw(segmentation.with_sensitivity(sensitivity), segmentationNode, volumeNode)

    @staticmethod
    def installRequirements(requirementsPath: str):
        """Install what is missing, after asking.

        Raises:
            RuntimeError: there is no PyTorch extension, or installing was declined or failed; one line.
        """
        from LiverTumorSegLib.scene import ensure_packages

        ensure_packages(Path(requirementsPath))


class LiverTumorSegTest(ScriptedLoadableModuleTest):
    """Segments a synthetic abdomen with known liver and tumours; needs PyTorch and the bundle `default`."""

    def setUp(self):
        slicer.mrmlScene.Clear()

    def runTest(self):
        self.setUp()
        self.test_from_scan_to_saved_scene()

    def test_from_scan_to_saved_scene(self):
        if importlib.util.find_spec("torch") is None:
            self.skipTest("needs PyTorch, which the panel installs")
        with tempfile.TemporaryDirectory() as folder:
            self.fromScanToSavedScene(Path(folder))

    def fromScanToSavedScene(self, folder):
        from LiverTumorSegLib import scene
        from LiverTumorSegLib.evaluation.metrics import dice
        from LiverTumorSegLib.panel import sample

        scan, truth = (sitk.ReadImage(str(path)) for path in sample.draw(folder))
        volumeNode = scene.add_volume(scan, slicer.mrmlScene, sample.NAME)
        logic = LiverTumorSegLogic()
        node = logic.segment(volumeNode)
        found = sitk.GetArrayFromImage(scene.labels_from_segmentation(node, volumeNode))
        wanted = sitk.GetArrayFromImage(truth)
        assert dice(wanted > 0, found > 0) > 0.8
        self.delayDisplay("The synthetic abdomen was segmented.")

        atFirst = scene.summary_of(node, volumeNode).tumour_ml
        logic.redraw(4.0)
        found = sitk.GetArrayFromImage(scene.labels_from_segmentation(node, volumeNode))
        assert np.any((wanted == 2) & (found == 2))
        lesions = scene.lesions_in(node, volumeNode)
        assert scene.summary_of(node, volumeNode).tumour_ml > atFirst
        self.delayDisplay(f"At sensitivity 4 there are {len(lesions)} lesions.")

        scene.jump_to(slicer.mrmlScene, lesions[0].lesion.centroid_ras_mm)
        scene.reject_lesion(node, volumeNode, lesions[0])
        remaining = [each.lesion.voxels for each in scene.lesions_in(node, volumeNode)]
        assert remaining == [each.lesion.voxels for each in lesions[1:]]
        assert scene.is_edited(node)
        self.delayDisplay("The largest lesion was rejected.")

        name = node.GetName()
        slicer.util.saveScene(str(folder / "abdomen.mrb"))
        slicer.mrmlScene.Clear()
        slicer.util.loadScene(str(folder / "abdomen.mrb"))
        node, volumeNode = slicer.util.getNode(name), slicer.util.getNode(sample.NAME)
        assert [each.lesion.voxels for each in scene.lesions_in(node, volumeNode)] == remaining
        assert node.GetAttribute("LiverTumorSeg.BundleSHA256")
        self.delayDisplay("The scene was saved and read again.")
