"""The further phases of a scan's study: which volumes they are, and a selector for each in the section Inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .. import scene
from ..phases import Candidate, match_phases
from ..recipe import Phase
from .collaborators import Collaborators, Node
from .nodes import study_of, volumes_in

_ROW = 1  # below the scan
_MAIN, _NONE = "phasesOf", "none"


def matching_volumes(volume_node: Node, declared: Sequence[Phase], *, own_study_only: bool = False) -> dict[str, Node]:
    """The volumes of the scene that are the phases of a scan, by their names; see `phases.match_phases`.

    Args:
        volume_node: the scan.
        declared: the phases that the networks look at.
        own_study_only: only what is known to be of the scan's study; else also volumes of no known study. Another
            study's are never taken: it may be another patient's.

    Returns:
        Phase name -> volume node, for those that were found.
    """
    study = study_of(volume_node)
    candidates = []
    for node in volumes_in(volume_node.GetScene()):
        other = study_of(node)
        same, differs = study == other != 0, 0 != study != other != 0
        if node is not volume_node and not differs and (same or not own_study_only):
            candidates.append(Candidate(node, _names(node), same))
    return match_phases(declared, candidates, _names(volume_node))


def is_phase(volume_node: Node, declared: Sequence[Phase]) -> bool:
    """Whether a volume is called like one of the phases."""
    return bool(match_phases(declared, [Candidate(volume_node, _names(volume_node))], ()))


class PhaseChoices:
    """A labelled selector for each phase of the chosen networks, filled by matching names until the user chooses.

    What is chosen is kept in the parameter node: a node reference "phase.<name>", or a parameter of that name that says
    that none is wanted. Another scan or other networks are matched anew.
    """

    def __init__(self, ui: Any, surroundings: Collaborators) -> None:
        """Args: the panel's controls, and what it asks of."""
        self._form, self._at = ui.inputsCollapsibleButton.layout(), surroundings
        self._rows: list[tuple[Any, Any]] = []
        self._declared: tuple[Phase, ...] = ()
        self._parameters: Any = None
        self._filling = False

    def attach(self, parameters: Any) -> None:
        """Show these parameters from now on; None as the scene closes."""
        self._parameters = parameters

    def show(self, declared: tuple[Phase, ...]) -> None:
        """Show a selector for each of these, and what is chosen."""
        self._declared = declared
        self._match()
        while len(self._rows) < len(declared):
            self._rows.append(self._new_row(len(self._rows)))
        self._filling = True
        for number, (label, selector) in enumerate(self._rows):
            label.visible = selector.visible = number < len(declared)
            if number < len(declared):
                self._fill(declared[number], label, selector)
        self._filling = False

    def chosen(self) -> dict[str, Node]:
        """Phase name -> volume node."""
        node = self._parameters.parameterNode
        found = {phase.name: node.GetNodeReference(_role(phase)) for phase in self._declared}
        return {name: volume for name, volume in found.items() if volume is not None}

    def lacking(self) -> str:
        """The title of a required phase that is not chosen, or nothing."""
        chosen = self.chosen()
        return next((_title(each) for each in self._declared if each.required and each.name not in chosen), "")

    def _new_row(self, number: int) -> tuple[Any, Any]:
        import qt

        label, selector = qt.QLabel(), self._at.new_selector()
        selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
        selector.showChildNodeTypes = selector.addEnabled = selector.removeEnabled = False
        selector.noneEnabled = True
        self._form.insertRow(_ROW + number, label, selector)
        selector.connect("currentNodeChanged(vtkMRMLNode*)", lambda node: self._choose(number, node))
        return label, selector

    def _fill(self, phase: Phase, label: Any, selector: Any) -> None:
        node, title = self._parameters.parameterNode, _title(phase)
        label.text = f"{title}:"
        selector.noneDisplay = f"Select the {title.lower()} phase" if phase.required else "None (optional)"
        selector.toolTip = (
            f"The {title.lower()} phase of the same study, which these networks look at beside the scan. "
            "Both must lie in one frame of reference."
        )
        if selector.mrmlScene() is not node.GetScene():
            selector.setMRMLScene(node.GetScene())
        selector.setCurrentNode(node.GetNodeReference(_role(phase)))

    def _choose(self, number: int, volume_node: Node | None) -> None:
        """The user has selected a volume or none, or the selected one was deleted."""
        if self._filling or self._parameters is None or number >= len(self._declared):
            return
        self._keep(_role(self._declared[number]), volume_node, _NONE if volume_node is None else "")

    def _match(self) -> None:
        """Fill what nobody has chosen yet; everything where the scan or the networks are others."""
        wanted = self._parameters
        node, volume = wanted.parameterNode, wanted.inputVolume
        if not self._declared or volume is None:
            return
        before = node.StartModify()
        if node.GetNodeReference(_MAIN) is not volume or node.GetParameter(_MAIN) != wanted.bundle:
            self._keep(_MAIN, volume, wanted.bundle)
            for phase in self._declared:
                self._keep(_role(phase), None, "")
        chosen = self.chosen()
        for name, found in matching_volumes(volume, self._declared).items():
            role = f"phase.{name}"
            if name not in chosen and node.GetParameter(role) != _NONE and found not in chosen.values():
                self._keep(role, found, "")
        node.EndModify(before)

    def _keep(self, role: str, volume_node: Node | None, text: str) -> None:
        node = self._parameters.parameterNode
        before = node.StartModify()  # half of it would be matched anew
        node.SetNodeReferenceID(role, volume_node.GetID() if volume_node is not None else None)
        node.SetParameter(role, text)
        node.EndModify(before)


def _names(volume_node: Node) -> tuple[str, ...]:
    """What a scan is called: its name, and its series description where that is known."""
    return tuple(filter(None, (volume_node.GetName(), scene.series_description(volume_node))))


def _role(phase: Phase) -> str:
    return f"phase.{phase.name}"


def _title(phase: Phase) -> str:
    return phase.name.replace("_", " ").capitalize()
