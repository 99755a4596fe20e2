"""S4 (section 2.2, figure 1): slices whole, then the part of them around the tumours, each with a 2D network.

denoised, smoothed slices -> coarse network: liver and tumour -> centre of the tumour's extent -> crop -> fine network
-> tumour, with 0 around the crop.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from ..errors import RecipeError, warn
from ..geometry import whole_box
from ..lesions import bounding_slices
from ..postprocessing import large_components
from ..recipe import Recipe, Slices, Triple
from ..windows import Window, cut, paste, shifted_inside, window_around
from . import Outcome
from .evidence import nested_evidence
from .maps import NEVER, cropped, in_half_precision
from .stages import Networks, StageOutput, Study

COARSE, FINE = 0, 1

_SLICES_BESIDE = 2  # without liver: where labels end, the vote needs a neighbour


def run(study: Study, networks: Networks) -> Outcome:
    """Both stages; where the coarse one finds no liver, the fine one searches all of the scan."""
    recipe = networks.recipe
    options = recipe.slices or Slices()
    check(recipe)
    coarse = networks.run(study, COARSE, whole_box(study.scan), in_half_precision)
    coarse, organ = _slices_with_liver(coarse, networks)
    liver, tumour = _channels(coarse.logits, networks)
    study.learn_liver_levels(coarse.volumes, organ & (tumour <= 0))
    lesions = organ & (tumour > 0)
    if organ.any():
        crops = find_crops(organ, lesions, options, networks.stage(FINE).grid.multiples)
    else:
        warn("the first stage found no liver; the second one searched the whole scan")
        crops = [Window((0, 0, 0), organ.shape)]
    fine = _fine_tumour(study, networks, coarse, crops)
    if not organ.any():
        liver = np.maximum(liver, fine)  # a tumour that is alone in the scan is the liver, too
    evidence = nested_evidence(liver, fine, coarse.geometry, recipe.postprocessing)
    centre = "tumour" if lesions.any() else "liver" if organ.any() else "scan"
    return Outcome(evidence, details={"crops": len(crops), "crops_centred_on": centre})


def find_crops(organ: np.ndarray, tumour: np.ndarray, options: Slices, multiples: Triple) -> list[Window]:
    """Where the fine network looks.

    Around the middle of the tumour's extent, in the whole volume or in each slice that has a tumour; where the volume
    has none, around the liver's centroid. A crop has the recipe's edge, and more where the extent does not fit.

    Args:
        organ: (k, j, i), the liver with its tumours; not empty.
        tumour: what of it is tumour.
        options: the edge of a crop, and whether there is one for the volume or one a slice.
        multiples: what the number of a crop's voxels along i, j, k is a multiple of.

    Returns:
        Windows of (k, j, i): all slices of the organ in one, or one for each slice with a tumour.
    """
    if options.centre == "slice":
        return [_crop(slice(k, k + 1), tumour[k], None, options.tile, multiples) for k in _slices_with(tumour)]
    slices = (bounding_slices(organ) or (slice(0, len(organ)),))[0]
    if tumour.any():
        return [_crop(slices, np.asarray(tumour.any(axis=0)), None, options.tile, multiples)]
    centroid = [float(each.mean()) for each in np.nonzero(organ)[1:]]
    return [_crop(slices, np.asarray(organ.any(axis=0)), centroid, options.tile, multiples)]


def _slices_with_liver(output: StageOutput, networks: Networks) -> tuple[StageOutput, np.ndarray]:
    """The slices with the large parts of what a network calls liver or tumour, and these; all slices without any."""
    organ = np.asarray((output.logits > 0).any(axis=0))
    organ = large_components(organ, networks.recipe.postprocessing.keep_liver_above)
    box = bounding_slices(organ)
    if box is None:
        return output, organ
    first, end = max(0, box[0].start - _SLICES_BESIDE), min(len(organ), box[0].stop + _SLICES_BESIDE)
    i, j, _ = output.geometry.size
    geometry = cropped(output.geometry, (slice(first, end), slice(0, j), slice(0, i)))
    volumes = [each if each is None else each[first:end] for each in output.volumes]
    return StageOutput(output.logits[:, first:end], geometry, volumes), organ[first:end]


def check(recipe: Recipe) -> None:
    """The crop is cut from the slices as the coarse network saw them.

    Raises:
        RecipeError: other stages than one for liver and tumour and one for tumours, each yes or no, or the fine network
            was trained on voxels of another size.
    """
    kinds = {stage.activation for stage in recipe.stages}
    classes = [set(stage.classes) for stage in recipe.stages]
    if kinds != {"sigmoid"} or classes != [{"liver", "tumour"}, {"tumour"}]:
        told = "; ".join(f"{stage.activation} of {', '.join(stage.classes)}" for stage in recipe.stages)
        wanted = "sigmoid of liver, tumour; sigmoid of tumour"
        raise RecipeError(f"recipe.stages: wanted {wanted} for a system 'slices', got {told}")
    coarse, fine = (
        grid.axes and [dataclasses.replace(axis, multiple_of=1) for axis in grid.axes]
        for grid in (recipe.stages[COARSE].grid, recipe.stages[FINE].grid)
    )
    if coarse is None or coarse != fine:
        raise RecipeError("recipe.stages: wanted two with grids of the same axes for a system 'slices', got others")


def _slices_with(mask: np.ndarray) -> Sequence[int]:
    return [int(k) for k in np.flatnonzero(mask.any(axis=(1, 2)))]


def _crop(slices: slice, extent: np.ndarray, centre: Sequence[float] | None, tile: int, multiples: Triple) -> Window:
    """A window of some slices that holds all of a (j, i) mask, around the middle of its extent or another centre."""
    places = np.argwhere(extent)
    low, high = places.min(0), places.max(0)
    middle = (low + high) / 2 if centre is None else np.array(centre)
    needed = 2 * np.maximum(middle - low, high - middle) + 1
    size = [
        int(np.ceil(max(length, tile) / multiple)) * multiple
        for length, multiple in zip(needed, multiples[1::-1], strict=True)
    ]
    window = shifted_inside(window_around(middle.tolist(), size), extent.shape)
    return Window((slices.start, *window.start), (slices.stop - slices.start, *window.size))


def _fine_tumour(study: Study, networks: Networks, coarse: StageOutput, crops: Sequence[Window]) -> np.ndarray:
    """The fine network's logits for tumour on the coarse one's grid, sure of none around the crops."""
    stage = networks.stage(FINE)
    with study.step(f"{stage.name}: prepare"):
        array = networks.input_of(study, FINE, coarse.volumes)
    tumour = np.full(array.shape[1:], NEVER, np.float32)
    name = f"{stage.name}: network"
    with study.step(name):
        for number, window in enumerate(crops):
            part = cut(array, window, float(array.min()))
            logits = networks.run_array(FINE, part, progress=_share_of(study, name, number, len(crops)))
            paste(tumour, window, logits[stage.classes.index("tumour")], np.maximum)
    study.stages[stage.name] = {
        "spacing_mm": tuple(round(edge, 4) for edge in coarse.geometry.spacing_mm),
        "size_voxels": tuple(int(n) for n in np.max([w.size for w in crops], axis=0)[::-1]) if crops else (0, 0, 0),
    }
    return tumour


def _share_of(study: Study, name: str, number: int, count: int) -> Callable[[float], None]:
    return lambda share: study.progress(name, (number + share) / count)


def _channels(logits: np.ndarray, networks: Networks) -> tuple[np.ndarray, np.ndarray]:
    """The coarse network's logits of liver and of tumour."""
    classes = networks.stage(COARSE).classes
    return logits[classes.index("liver")], logits[classes.index("tumour")]
