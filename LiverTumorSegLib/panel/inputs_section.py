"""The section Inputs: the choices that come and go (networks, devices), and what Apply asks for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import LiverTumorSegError
from .bundles import ARCHIVE_PATTERNS, BundleCard, BundleStore
from .client import Job
from .collaborators import Collaborators
from .phases import PhaseChoices
from .run import Order
from .widgets import Choices
from .wording import device_text

if TYPE_CHECKING:
    from ..recipe import Phase
    from .client import Device

AUTOMATIC, ANY_MODALITY = "auto", "auto"
MODALITIES = ((ANY_MODALITY, "As the scan says"), ("CT", "CT"), ("MR", "MR"))
_IMPORT_TITLE = "Import networks: a .zip, or the checksums.json of a folder"
_ALWAYS = ((AUTOMATIC, "Automatic"), ("cpu", "Processor (CPU)"))


class InputsSection:
    """Ties combo boxes and the phases' selectors to the parameters, and imports bundles."""

    def __init__(
        self, ui: Any, surroundings: Collaborators, bundles: BundleStore, on_status: Callable[[str], None]
    ) -> None:
        """Args: the panel's controls, what it asks of, the bundles, and where a line for the user goes."""
        self._ui, self._at, self._bundles, self._say = ui, surroundings, bundles, on_status
        self._parameters: Any = None
        self._devices_known, self._card_shown = False, ""
        self._devices: list[tuple[str, str]] = []
        self._card: BundleCard | None = None
        self._phases = PhaseChoices(ui, surroundings)
        self._modality = Choices(ui.modalityComboBox, lambda value: self._set("modality", value))
        self._bundle = Choices(ui.bundleComboBox, lambda value: self._set("bundle", value))
        self._device = Choices(ui.deviceComboBox, lambda value: self._set("device", value))
        ui.importBundleButton.connect("clicked()", self.import_bundle)
        ui.openBundleFolderButton.connect("clicked()", self.open_folder)

    def attach(self, parameters: Any) -> None:
        """Fill the boxes and show these parameters from now on; None as the scene closes."""
        self._parameters = parameters
        self._phases.attach(parameters)
        if parameters is not None:
            self._modality.fill(MODALITIES, parameters.modality)
            self._device.fill([*_ALWAYS, *self._devices], parameters.device)
            self._fill_bundles()
            self._devices_known = False

    def show(self) -> None:
        """The parameters have changed."""
        self._modality.show(self._parameters.modality)
        self._device.show(self._parameters.device)
        self._bundle.show(self._parameters.bundle)
        self._show_card()
        self._phases.show(self.phases())

    def ask_for_devices(self) -> None:
        """Have the worker list the devices, once a visit; until it answers there are those that were known before."""
        if not self._devices_known and self._parameters is not None:
            self._devices_known = True
            self._at.client.devices(self._offer_devices)

    def order(self) -> Order:
        """What Apply asks for now; there must be a volume."""
        wanted = self._parameters
        return Order(
            volume=wanted.inputVolume,
            target=wanted.segmentation,
            job=self.job(),
            stages=self._card.stages if self._card is not None else (),
            separate_lesions=wanted.separateLesions,
            phases=self._phases.chosen(),
        )

    def phases(self) -> tuple[Phase, ...]:
        """The further phases that the chosen networks look at."""
        return self._card.phases if self._card is not None else ()

    def lacking(self) -> str:
        """What must be selected before a run can begin, in words, or nothing."""
        if self._parameters.inputVolume is None:
            return "Select a scan first."
        phase = self._phases.lacking()
        return f"Select the {phase.lower()} phase first." if phase else ""

    def job(self) -> Job:
        """What the worker is to do with a scan."""
        wanted = self._parameters
        modality = None if wanted.modality == ANY_MODALITY else wanted.modality
        return Job(wanted.bundle, wanted.device, modality, wanted.sensitivity)

    def import_bundle(self) -> None:
        """Ask for a bundle, check and copy it, and choose it."""
        picked = self._at.messages.choose_file(
            "Import networks: a .zip, or checksums.json of a folder", ARCHIVE_PATTERNS
        )
        if picked is None:
            return
        try:
            name = self._bundles.add(picked)
        except (OSError, LiverTumorSegError) as error:
            self._say(f"Not imported: {error}")
            return
        self._parameters.bundle = name
        self._fill_bundles()
        self._say(f"The networks {name} were checked and imported.")

    def open_folder(self) -> None:
        """Show the chosen bundle's folder."""
        try:
            self._at.messages.show_folder(self._bundles.folder(self._parameters.bundle))
        except LiverTumorSegError as error:
            self._say(str(error))

    def _set(self, name: str, value: str) -> None:
        if self._parameters is not None:
            setattr(self._parameters, name, value)

    def _fill_bundles(self) -> None:
        self._bundle.fill([(name, name) for name in self._bundles.names()], self._parameters.bundle)
        self._card_shown = ""
        self._show_card()

    def _show_card(self) -> None:
        name = self._parameters.bundle
        if name == self._card_shown:
            return
        self._card_shown = name
        if name not in self._bundles.names():
            self._card = None
            self._ui.bundleSummaryLabel.text = "These networks are not on this computer; choose others or import them."
            return
        self._card = card = self._bundles.card(name)
        self._ui.bundleSummaryLabel.text = card.summary
        self._ui.bundleSummaryLabel.toolTip = card.details

    def _offer_devices(self, devices: Sequence[Device]) -> None:
        if devices:  # a worker that failed knows of none
            self._devices = [(each.device, device_text(each)) for each in devices if each.device != "cpu"]
        if self._parameters is not None:
            self._device.fill([*_ALWAYS, *self._devices], self._parameters.device)
