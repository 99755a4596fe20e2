"""What a cascade is: frozen dataclasses read from JSON, with no code in them.

A recipe says everything that turns a scan into labels, except the weights: the grids, the
intensity scaling, the networks, the crop, the postprocessing and how it is trained. Inference and
training read the same recipe. Behaviour follows these fields, never the name of a file or network.

All spatial triples here are in (i, j, k) order, as SimpleITK gives sizes; lengths are millimetres
unless the name says voxels.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from .errors import RecipeError

Triple = tuple[int, int, int]


@dataclass(frozen=True)
class Grid:
    """The isotropic grid on which one network looks at one region of the scan.

    Exactly one of the two must be given:

    Attributes:
        spacing_mm: edge of a voxel; the region gets as many voxels as it needs, rounded up to
            `multiple_of` in each direction.
        shape: the fixed (i, j, k) size of the network's input; the spacing is the smallest
            isotropic one at which the whole region fits, and the rest is padding (S1, section
            3.2.1: isotropic resampling into an input of 128 x 128 x 92 voxels).
        multiple_of: what the network's downsampling divides.
    """

    spacing_mm: float | None = None
    shape: Triple | None = None
    multiple_of: int = 16

    def __post_init__(self) -> None:
        if (self.spacing_mm is None) == (self.shape is None):
            raise RecipeError("grid: wanted exactly one of spacing_mm and shape")
        if self.spacing_mm is not None and not 0.2 <= self.spacing_mm <= 20:
            raise RecipeError(f"grid.spacing_mm: wanted 0.2 to 20 mm, got {self.spacing_mm}")
        if self.shape is not None and min(self.shape) < 8:
            raise RecipeError(f"grid.shape: wanted at least 8 voxels a side, got {self.shape}")
        if self.multiple_of < 1:
            raise RecipeError(f"grid.multiple_of: wanted at least 1, got {self.multiple_of}")


@dataclass(frozen=True)
class Intensity:
    """How grey values become network input: clip, then scale.

    Attributes:
        ct_clip_hu: limits in Hounsfield units for CT, or None for no clipping; not used by "liver".
        mr_clip_percentiles: limits as percentiles of the body's voxels for MR, or None; likewise.
        scale: "unit" maps the limits to 0..1; "zscore" gives zero mean and unit deviation over
            the region; "liver" puts the liver's level, which the stage before found, to 0, so that
            liver and lesions look alike in every modality and phase.
        liver_window: for "liver", what one unit of network input amounts to: Hounsfield units in
            CT, a share of the liver's level in MR. Clipped at 2 units below and above.
    """

    ct_clip_hu: tuple[float, float] | None = None
    mr_clip_percentiles: tuple[float, float] | None = None
    scale: Literal["unit", "zscore", "liver"] = "zscore"
    liver_window: tuple[float, float] = (75.0, 0.5)

    def __post_init__(self) -> None:
        for name in ("ct_clip_hu", "mr_clip_percentiles"):
            limits = getattr(self, name)
            if limits is not None and not limits[0] < limits[1]:
                raise RecipeError(f"intensity.{name}: wanted low < high, got {limits}")
        if min(self.liver_window) <= 0:
            raise RecipeError(f"intensity.liver_window: wanted widths above 0, got {self.liver_window}")


@dataclass(frozen=True)
class Stage:
    """One network on one grid.

    Attributes:
        name: also the name of its weights: `weights/<name>.safetensors`.
        network: a key of `networks.NETWORKS`.
        arguments: keyword arguments of that network.
        grid: the grid it works on.
        intensity: the scaling of its input.
        window: (i, j, k) size above which the region is tiled with overlapping windows, or None
            to run it whole at any size.
        overlap: share of a window that neighbouring windows have in common.
    """

    name: str
    network: str
    grid: Grid
    arguments: dict[str, Any] = field(default_factory=dict)
    intensity: Intensity = Intensity()
    window: Triple | None = None
    overlap: float = 0.25

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise RecipeError(f"stage.name: wanted a plain word, got {self.name!r}")
        if not 0 <= self.overlap < 1:
            raise RecipeError(f"stage.overlap: wanted 0 up to 1, got {self.overlap}")


@dataclass(frozen=True)
class Phase:
    """A further scan of the same study, which the networks see beside the main one as a channel of its own.

    Attributes:
        name: a plain word, "arterial" for example; what the user and `segment(phases=...)` call it.
        match: what the names of volumes and DICOM series call it, beside its own name: "art", "late arterial".
        required: whether nothing is done without it. A missing one that is not required is 0 in every voxel after
            scaling, which is how training must show it (S3, as 1 to 4 phases may be there).
    """

    name: str
    match: tuple[str, ...] = ()
    required: bool = False

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise RecipeError(f"phase.name: wanted a plain word, got {self.name!r}")
        if not all(any(c.isalnum() for c in each) for each in self.match):
            raise RecipeError(f"phase.match: wanted words with letters or digits, got {list(self.match)}")


@dataclass(frozen=True)
class Crop:
    """The box around stage 1's liver that stage 2 sees; the margin may be negative.

    Exactly one of the two must be given. `margin_voxels` counts voxels of the scan's own grid
    (S1, section 3.2.1: +10 in training, -20 at inference as printed).
    """

    margin_mm: float | None = None
    margin_voxels: int | None = None

    def __post_init__(self) -> None:
        if (self.margin_mm is None) == (self.margin_voxels is None):
            raise RecipeError("crop: wanted exactly one of margin_mm and margin_voxels")


@dataclass(frozen=True)
class Postprocessing:
    """How network output becomes the final labels.

    Attributes:
        keep_liver_above: keep liver components at least this share of the largest; 1.0 keeps only
            the largest (S1 as printed), 0.1 also keeps the parts of a resected or bilobed liver.
        fill_holes: close cavities of the liver, tumours included.
        tumour_reach_mm: keep tumours that touch the liver dilated by this much, so that
            subcapsular ones are not lost.
        min_liver_contact: of the voxels around a tumour, at least this share must be liver; else it
            lies beside the liver, not in it, and becomes background. 0 asks for none.
        opening_radius_voxels: opening of the tumour mask with a digital ball on the scan's grid
            (S1, section 3.2.1: 2, which deletes lesions under 33 voxels); 0 for none.
        min_lesion_ml: drop tumour components smaller than this.
        min_lesion_probability: drop tumour components whose mean probability is lower; a sensitivity
            factor f lowers the odds of this threshold by f.
    """

    keep_liver_above: float = 0.1
    fill_holes: bool = True
    tumour_reach_mm: float = 5.0
    min_liver_contact: float = 0.0
    opening_radius_voxels: int = 0
    min_lesion_ml: float = 0.0
    min_lesion_probability: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.keep_liver_above <= 1:
            raise RecipeError(f"postprocessing.keep_liver_above: wanted above 0 up to 1, got {self.keep_liver_above}")


@dataclass(frozen=True)
class Training:
    """How the stages are trained (defaults: S1, section 3.2.1, repaired where the text is silent).

    Attributes:
        loss: a key of `training.losses.LOSSES` for each stage; the last one holds for the stages after it.
        learning_rate: Adam's initial rate.
        schedule_power: rate = learning_rate * (1 - epoch / epochs) ** schedule_power.
        epochs: how many for each stage; the last one holds for the stages after it.
        iterations_per_epoch: steps between two validations.
        patience: stop a stage after this many epochs without a better validation loss.
        batch_size: patches in a step.
        patch: (i, j, k) voxels of a training patch, one for each stage.
        hand_over: start each later stage from the weights of the one before.
        weight_average: share of the running average of the weights that a step leaves as it was; the average is
            what is validated and kept. 0 keeps the last step's weights, as S1 does.
    """

    loss: tuple[str, ...] = ("dice_focal",)
    learning_rate: float = 1e-3
    schedule_power: float = 0.9
    epochs: tuple[int, ...] = (100,)
    iterations_per_epoch: int = 50
    patience: int = 20
    batch_size: int = 1
    patch: tuple[Triple, ...] = ((96, 96, 64), (96, 96, 80))
    hand_over: bool = True
    weight_average: float = 0.0

    def __post_init__(self) -> None:
        for name in ("loss", "epochs"):
            if not getattr(self, name):
                raise RecipeError(f"training.{name}: wanted one entry for each stage, got none")
        if not 0 <= self.weight_average < 1:
            raise RecipeError(f"training.weight_average: wanted 0 to below 1, got {self.weight_average}")

    def loss_of(self, stage: int) -> str:
        """The loss of a stage, counted from 0."""
        return self.loss[min(stage, len(self.loss) - 1)]

    def epochs_of(self, stage: int) -> int:
        """The number of epochs of a stage, counted from 0."""
        return self.epochs[min(stage, len(self.epochs) - 1)]


@dataclass(frozen=True)
class Recipe:
    """A whole cascade: one stage, or a whole-field stage followed by a cropped one.

    Attributes:
        name: what the recipe is called in reports.
        variant: "as_printed" (what the paper says) or "repaired" (what it must have meant).
        source: the paper and its sections.
        stages: in the order in which they run.
        crop: the box that every stage after the first sees.
        phases: further scans of the same study; the networks' channels are the main scan and these, in this order.
    """

    name: str
    variant: Literal["as_printed", "repaired"]
    source: str
    stages: tuple[Stage, ...]
    crop: Crop = Crop(margin_mm=10.0)
    postprocessing: Postprocessing = Postprocessing()
    training: Training = Training()
    phases: tuple[Phase, ...] = ()

    def __post_init__(self) -> None:
        if len(self.stages) not in (1, 2):
            raise RecipeError(f"recipe.stages: wanted 1 or 2 stages, got {len(self.stages)}")
        if self.stages[0].intensity.scale == "liver":
            raise RecipeError(
                "recipe.stages[0].intensity.scale: wanted unit or zscore, got 'liver': no stage found it yet"
            )
        if len(self.training.patch) < len(self.stages):
            got = len(self.training.patch)
            raise RecipeError(f"recipe.training.patch: wanted one for each of {len(self.stages)} stages, got {got}")
        self._check_channels()

    def _check_channels(self) -> None:
        names = [phase.name.casefold() for phase in self.phases]
        if len(set(names)) < len(names):
            raise RecipeError(f"recipe.phases: wanted names that differ, got {', '.join(names)}")
        for number, stage in enumerate(self.stages):
            wanted, got = 1 + len(names), stage.arguments.get("in_channels", 1)
            if got != wanted:
                where = f"recipe.stages[{number}].arguments.in_channels"
                raise RecipeError(f"{where}: wanted {wanted}, one for the scan and one for each phase, got {got!r}")


def load_recipe(path: Path) -> Recipe:
    """Read a recipe from a JSON file.

    Raises:
        RecipeError: names the file, the key and what is allowed there.
    """
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"{path}: cannot read the recipe: {error.strerror}") from error
    except ValueError as error:
        raise RecipeError(f"{path}: wanted a recipe in JSON, got {error}") from error
    try:
        return typing.cast(Recipe, _build(Recipe, document, ""))
    except RecipeError as error:
        raise RecipeError(f"{path}: {error}") from None


def recipe_to_json(recipe: Recipe) -> str:
    """The recipe as JSON text; `load_recipe` gives the same recipe back."""
    return json.dumps(dataclasses.asdict(recipe), indent=2) + "\n"


def _build(kind: Any, value: Any, where: str) -> Any:
    """Turn parsed JSON into the annotated type `kind`; `where` is the key path for messages."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        return _build_dataclass(typing.cast(type, kind), value, where)
    if origin is types.UnionType:
        if value is None and type(None) in arguments:
            return None
        return _build(next(a for a in arguments if a is not type(None)), value, where)
    if origin is tuple:
        return _build_tuple(arguments, value, where)
    if origin is Literal:
        if value not in arguments:
            raise RecipeError(f"{where}: wanted one of {', '.join(map(repr, arguments))}, got {value!r}")
        return value
    plain = dict if origin is dict else kind
    if plain is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, plain) or (isinstance(value, bool) and plain is not bool):
        raise RecipeError(f"{where}: wanted {plain.__name__}, got {value!r}")
    return value


def _build_dataclass(kind: type, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise RecipeError(f"{where or 'recipe'}: wanted an object, got {value!r}")
    fields = {f.name: f for f in dataclasses.fields(kind)}
    for key in value:
        if key not in fields:
            raise RecipeError(f"unknown key {_join(where, key)!r}; allowed there: {', '.join(fields)}")
    for name, each in fields.items():
        has_default = each.default is not dataclasses.MISSING or each.default_factory is not dataclasses.MISSING
        if name not in value and not has_default:
            raise RecipeError(f"missing key {_join(where, name)!r}")
    hints = typing.get_type_hints(kind)
    return kind(**{key: _build(hints[key], each, _join(where, key)) for key, each in value.items()})


def _build_tuple(kinds: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise RecipeError(f"{where}: wanted a list, got {value!r}")
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        kinds = (kinds[0],) * len(value)
    if len(value) != len(kinds):
        raise RecipeError(f"{where}: wanted {len(kinds)} values, got {value!r}")
    return tuple(_build(k, v, f"{where}[{n}]") for n, (k, v) in enumerate(zip(kinds, value, strict=True)))


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key
