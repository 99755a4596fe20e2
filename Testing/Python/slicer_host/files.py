"""`slicer.app.coreIOManager()`, as far as `slicer.util.saveScene`, `loadVolume` and the like ask it."""

from __future__ import annotations

from pathlib import Path

import slicer

NODE_TYPES = {
    "SegmentationFile": "vtkMRMLSegmentationNode",
    "TableFile": "vtkMRMLTableNode",
    "TextFile": "vtkMRMLTextNode",
    "ModelFile": "vtkMRMLModelNode",
}
FILE_TYPES = {".mrb": "SceneFile", ".mrml": "SceneFile", ".seg.nrrd": "SegmentationFile", ".csv": "TableFile"}


class FileManager:
    def __init__(self, volumes_logic) -> None:
        self._volumes = volumes_logic

    def fileType(self, path) -> str:
        name = str(path).lower()
        return next((kind for ending, kind in FILE_TYPES.items() if name.endswith(ending)), "VolumeFile")

    def fileWriterFileType(self, node) -> str:
        return "NodeFile"

    def loadNodes(self, kind: str, properties: dict, loaded=None, messages=None) -> bool:
        path = str(properties["fileName"])
        if kind == "SceneFile":
            return self._load_scene(path, bool(properties.get("clear")))
        name = properties.get("name") or Path(path).name.partition(".")[0]
        if kind == "VolumeFile":
            node = self._volumes.AddArchetypeVolume(path, name, 1 if properties.get("labelmap") else 0)
        else:
            node = slicer.mrmlScene.AddNewNodeByClass(NODE_TYPES[kind], name)
            storage = node.CreateDefaultStorageNode()
            slicer.mrmlScene.AddNode(storage)
            storage.SetFileName(path)
            node.SetAndObserveStorageNodeID(storage.GetID())
            if not storage.ReadData(node):
                slicer.mrmlScene.RemoveNode(node)
                node = None
        if node is not None and loaded is not None:
            loaded.AddItem(node)
        return node is not None

    def _load_scene(self, path: str, clear: bool) -> bool:
        scene = slicer.mrmlScene
        if path.lower().endswith(".mrb"):
            return bool(scene.ReadFromMRB(path, clear))
        scene.SetURL(path)
        return bool(scene.Connect() if clear else scene.Import())

    def saveNodes(self, kind: str, properties: dict, messages=None) -> bool:
        path, scene = str(properties["fileName"]), slicer.mrmlScene
        if kind != "SceneFile":
            return self._save_node(scene.GetNodeByID(properties["nodeID"]), path)
        if path.lower().endswith(".mrb"):
            return bool(scene.WriteToMRB(path))
        return bool(
            scene.Commit(path) if path.lower().endswith(".mrml") else scene.SaveSceneToSlicerDataBundleDirectory(path)
        )

    def _save_node(self, node, path: str) -> bool:
        if node.GetStorageNode() is None:
            node.AddDefaultStorageNode(path)
        node.GetStorageNode().SetFileName(path)
        return bool(node.GetStorageNode().WriteData(node))
