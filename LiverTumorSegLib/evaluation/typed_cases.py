"""Types of lesions: in references by the names that a data set gives its values, in predictions by `lesions.csv`."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..datasets.cases import OTHER, DatasetCase
from ..errors import ImageError
from ..lesions import iterate_components
from ..output import REPORT, TABLE
from ..recipe import LIVER, Typing
from ..segmentation import TUMOUR, Segmentation
from .census import FIRST
from .typed import TypedMatching, match_typed


def has_lesion_types(case: DatasetCase, options: Typing) -> bool:
    """Whether the data set names some lesion type, and not `OTHER` alone, among the values of its references."""
    return not {*options.lesion_types}.difference({OTHER}).isdisjoint(case.value_names.values())


def read_reference(case: DatasetCase, options: Typing) -> tuple[sitk.Image, np.ndarray | None]:
    """A case's reference as 0, 1 liver, 2 tumour, and with types where the data set has them.

    Args:
        case: with labels.
        options: which lesion types there are.

    Returns:
        uint8 labels; and (k, j, i) values, `FIRST` and up for the lesion types in their order, or None.

    Raises:
        ImageError: the labels are not there or cannot be read.
    """
    if not has_lesion_types(case, options):
        return case.read_labels(), None
    typed = case.read_named(("background", LIVER, *options.lesion_types))
    array = sitk.GetArrayFromImage(typed)
    labels = sitk.GetImageFromArray(np.minimum(array, TUMOUR))
    labels.CopyInformation(typed)
    return labels, array


def read_types(prediction: Path) -> tuple[str, ...] | None:
    """The types of a prediction's lesions, largest first, from the `lesions.csv` beside it; None where it tells none.

    Raises:
        ImageError: the table cannot be read.
    """
    table = prediction.parent / TABLE
    if not table.is_file():
        return None
    try:
        with table.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ImageError(f"{table.name}: wanted a table of lesions, got {error}") from None
    if not rows:  # without a lesion there is no such column
        return ()
    return tuple(row["type"] for row in rows) if "type" in rows[0] else None


def read_patient_class(prediction: Path) -> str:
    """What was said of the patient, from the `report.json` beside a prediction; "" where it says nothing.

    Raises:
        ImageError: the report cannot be read.
    """
    report = prediction.parent / REPORT
    if not report.is_file():
        return ""
    try:
        told = json.loads(report.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ImageError(f"{report.name}: wanted a report of a result, got: {error}") from None
    found = told.get("patient_class", "") if isinstance(told, dict) else None
    if not isinstance(found, str):
        raise ImageError(f"{report.name}: wanted a patient_class that is a text, got {found!r}")
    return found


def match_case(
    reference: np.ndarray, prediction: sitk.Image, types: Sequence[str], options: Typing, patient_class: str = ""
) -> TypedMatching:
    """Compare a typed reference with a prediction whose lesions have types.

    Args:
        reference: from `read_reference`.
        prediction: labels 0, 1, 2 on the same grid.
        types: of its lesions, largest first, as `find_lesions` numbers them; "" for an unknown one, which counts as
            the last type, the most harmless one.
        options: which lesion types there are.
        patient_class: what was said of the patient, "" where nothing was.

    Raises:
        ImageError: not one type for each lesion.
    """
    labels = sitk.GetArrayViewFromImage(prediction)
    typed = np.zeros(labels.shape, np.uint8)
    components = list(iterate_components(np.asarray(labels == TUMOUR)))
    if len(types) != len(components):
        raise ImageError(f"{TABLE}: wanted the types of {len(components)} lesions, got {len(types)}")
    order = options.lesion_types
    for (box, mask), name in zip(components, types, strict=True):
        typed[box][mask] = FIRST + (order.index(name) if name in order else len(order) - 1)
    names = dict(enumerate(order, FIRST))
    voxel_ml = float(np.prod(prediction.GetSpacing()) / 1000)
    return match_typed(reference, typed, names, voxel_ml, patient_class or None)


def match_segmentation(reference: np.ndarray, segmentation: Segmentation, options: Typing) -> TypedMatching:
    """Compare a typed reference with a result at hand."""
    types = [lesion.type for lesion in segmentation.lesions]
    return match_case(reference, segmentation.labels, types, options, segmentation.patient_class)
