"""Bring one phase of a study onto another: affine, then a B-spline on a coarse lattice, by SimpleITK.

S3 aligns its four phases before anything else (section IV.A, by DEEDS); here mutual information, which does not mind
contrast medium, drives an affine and then a free-form deformation. Both look at the body alone: the table and the air
around it move otherwise than the patient does. What makes things worse is not used, and says so.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
import SimpleITK as sitk

from .errors import ImageError, warn
from .preprocessing import padding_value

Method = Literal["none", "affine", "deformable"]

GRID_MM = 4.0
LATTICE_MM = 60.0
_SOFT_TISSUE_HU = (-150.0, 250.0)
_BODY_HU = -300.0
_RIM_MM = 12.0
_BINS = 32
_SAMPLES = 10_000
_LEAST_GAIN = 0.003  # of mutual information; any two scans can be bent to share a little more
_SEED = 1
_LEAST_VOXELS = 2000
_LEAST_SIDE = 4  # voxels of the coarse grid; ITK's smoothing takes no fewer


@dataclass(frozen=True)
class Quality:
    """How well a phase was brought onto the scan.

    Attributes:
        used: whether the moved phase took the place of the given one.
        reason: why not, or "".
        before, after: normalised mutual information with the scan over the body, 1 (nothing in common) to 2 (each
            tells the other); measured on the coarse grid.
        displacement_mm: how far the body's voxels were moved: median, 95th percentile and most.
        folded: share of the body's voxels where the deformation is not one to one.
        seconds: how long it took.
    """

    used: bool
    reason: str
    before: float
    after: float
    displacement_mm: tuple[float, float, float]
    folded: float
    seconds: float


def register(
    moving: sitk.Image, fixed: sitk.Image, modality: str, name: str = "phase", method: Method = "deformable"
) -> tuple[sitk.Image, Quality]:
    """Move a phase onto the scan.

    Args:
        moving: a 3D scan in the fixed one's frame of reference, on any grid, oblique ones too.
        fixed: what it shall lie on.
        modality: "CT" (in HU) or "MR", of both.
        name: of the phase, in warnings.
        method: how freely it may move; "none" leaves it as it is and only measures.

    Returns:
        The moved phase on the fixed scan's grid, in its own pixel type, and how good it is. Where moving it does not
        help or cannot be done, the phase as it was given, with a warning.

    Raises:
        ImageError: one of the two is not 3D.
    """
    for each in (moving, fixed):
        if each.GetDimension() != 3:
            raise ImageError(f"{name}: wanted 3D scans to register, got {each.GetDimension()}D")
    began = time.perf_counter()
    still, floating = _coarse(fixed, modality), _coarse(moving, modality)
    body = _body(fixed, still, modality)
    before = _likeness(still, _onto(floating, still, sitk.Transform(3, sitk.sitkIdentity)), body)
    transform, reason = None, "not asked for"
    if method != "none":
        with _one_thread():
            transform, reason = _search(still, floating, body, method)
    if transform is None:
        quality = Quality(False, reason, before, before, (0.0, 0.0, 0.0), 0.0, time.perf_counter() - began)
    else:
        quality = _judged(transform, still, floating, body, before, time.perf_counter() - began)
    if not quality.used:
        if method != "none":
            warn(f"{name}: not registered, {quality.reason}; it is used as it is")
        return moving, quality
    padding = padding_value(moving, modality)
    moved = sitk.Resample(moving, fixed, transform, sitk.sitkLinear, padding, moving.GetPixelID())
    return moved, quality


def normalised_mutual_information(a: np.ndarray, b: np.ndarray, bins: int = _BINS) -> float:
    """(H(a) + H(b)) / H(a, b) of two arrays' values, voxel by voxel (Studholme et al., 1999); 1 where one is constant.

    Args:
        a, b: of one shape.
        bins: of each one's histogram, from its least to its highest value.
    """
    joint, _, _ = np.histogram2d(a.ravel(), b.ravel(), bins)
    joint /= max(joint.sum(), 1)
    both = _entropy(joint)
    return float((_entropy(joint.sum(0)) + _entropy(joint.sum(1))) / both) if both > 0 else 1.0


def _entropy(shares: np.ndarray) -> float:
    shares = shares[shares > 0]
    return float(-(shares * np.log(shares)).sum())


def _coarse(image: sitk.Image, modality: str) -> sitk.Image:
    """Soft tissue on a grid of about `GRID_MM` along the scan's own axes: float32."""
    spacing = np.array(image.GetSpacing())
    factors = [max(1, min(int(GRID_MM / s + 0.5), n)) for s, n in zip(spacing, image.GetSize(), strict=True)]
    small = sitk.BinShrink(sitk.Cast(image, sitk.sitkFloat32), factors)
    if modality == "CT":
        return sitk.Clamp(small, sitk.sitkFloat32, *_SOFT_TISSUE_HU)
    low, high = np.percentile(sitk.GetArrayViewFromImage(small), (1, 99.5))
    return sitk.Clamp(small, sitk.sitkFloat32, float(low), float(max(high, low + 1e-3)))


def _body(image: sitk.Image, grid: sitk.Image, modality: str) -> sitk.Image:
    """The patient on the coarse grid (uint8): the largest component of what is no air, and a rim of air."""
    soft = sitk.Resample(sitk.Cast(image, sitk.sitkFloat32), grid, sitk.Transform(), sitk.sitkLinear)
    array = sitk.GetArrayViewFromImage(soft)
    threshold = _BODY_HU if modality == "CT" else 0.05 * float(np.percentile(array, 99.5))
    body = sitk.BinaryMorphologicalOpening(soft > threshold, [1, 1, 1])
    largest = sitk.RelabelComponent(sitk.ConnectedComponent(body), sortByObjectSize=True) == 1
    closed = sitk.BinaryMorphologicalClosing(largest, [3, 3, 3])
    # With a little air around it: else nothing holds the body's outline, and the search blows the body up.
    rim = [max(1, round(_RIM_MM / s)) for s in grid.GetSpacing()]
    return sitk.Cast(sitk.BinaryDilate(closed, rim), sitk.sitkUInt8)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Several threads would add up the metric in another order each time, and no two runs would agree."""
    number = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(number)


def _search(
    still: sitk.Image, floating: sitk.Image, body: sitk.Image, method: Method
) -> tuple[sitk.Transform | None, str]:
    """The transform from the fixed scan's space to the moving one's, or None and why there is none."""
    voxels = np.count_nonzero(sitk.GetArrayViewFromImage(body))
    if voxels < _LEAST_VOXELS:
        return None, f"wanted a body of {_LEAST_VOXELS} coarse voxels, got {voxels}"
    for each in (still, floating):
        if min(each.GetSize()) < _LEAST_SIDE:
            size = "×".join(map(str, each.GetSize()))
            return None, f"wanted at least {_LEAST_SIDE} coarse voxels along each axis, got {size}"
    try:
        affine = _affine(still, floating, body)
        return (affine if method == "affine" else _deformation(still, floating, body, affine)), ""
    except RuntimeError as error:  # the only type SimpleITK raises; the scans may hardly overlap
        return None, f"the search failed: {_last_words(str(error))}"


def _last_words(text: str, most: int = 120) -> str:
    """The end of a long message on one line; it begins with a whole word."""
    text = " ".join(text.split())
    return text if len(text) <= most else f"…{text[-most:].partition(' ')[2]}"


def _affine(still: sitk.Image, floating: sitk.Image, body: sitk.Image) -> sitk.Transform:
    middle = [(n - 1) / 2 for n in still.GetSize()]
    start = sitk.AffineTransform(3)
    start.SetCenter(still.TransformContinuousIndexToPhysicalPoint(middle))
    method = _method(still, body)
    method.SetOptimizerAsRegularStepGradientDescent(1.0, 1e-3, 40, gradientMagnitudeTolerance=1e-6)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetInitialTransform(start, inPlace=True)
    method.Execute(still, floating)
    return start


def _deformation(
    still: sitk.Image, floating: sitk.Image, body: sitk.Image, affine: sitk.Transform
) -> sitk.CompositeTransform:
    """The affine and, within it, a cubic B-spline with a control point each `LATTICE_MM`."""
    extent = np.array(still.GetSize()) * np.array(still.GetSpacing())
    mesh = [int(n) for n in np.clip(np.round(extent / LATTICE_MM), 2, 12)]
    spline = sitk.BSplineTransformInitializer(still, mesh, order=3)
    method = _method(still, body)
    method.SetMovingInitialTransform(affine)
    method.SetOptimizerAsLBFGSB(gradientConvergenceTolerance=1e-5, numberOfIterations=12)
    method.SetInitialTransform(spline, inPlace=True)
    method.Execute(still, floating)
    return sitk.CompositeTransform([affine, spline])


def _method(still: sitk.Image, body: sitk.Image) -> sitk.ImageRegistrationMethod:
    """Mutual information over the body, first on half the grid's resolution; the same samples in every run."""
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(_BINS)
    method.SetMetricFixedMask(body)
    method.SetMetricSamplingStrategy(method.RANDOM)
    share = _SAMPLES / max(still.GetNumberOfPixels(), 1)
    method.SetMetricSamplingPercentagePerLevel([min(1.0, 8 * share), min(1.0, share)], _SEED)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetShrinkFactorsPerLevel([2, 1])
    method.SetSmoothingSigmasPerLevel([GRID_MM, GRID_MM / 2])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    return method


def _judged(
    transform: sitk.Transform, still: sitk.Image, floating: sitk.Image, body: sitk.Image, before: float, seconds: float
) -> Quality:
    field = sitk.TransformToDisplacementField(
        transform,
        sitk.sitkVectorFloat64,
        still.GetSize(),
        still.GetOrigin(),
        still.GetSpacing(),
        still.GetDirection(),
    )
    inside = sitk.GetArrayViewFromImage(body) > 0
    lengths = np.linalg.norm(sitk.GetArrayViewFromImage(field)[inside], axis=1)
    folded = float((_one_to_one(field)[inside] <= 0).mean())
    after = _likeness(still, _onto(floating, still, transform), body)
    reason = ""
    if folded > 0:
        reason = f"the deformation folds in {100 * folded:.2f} % of the body"
    elif after < before + _LEAST_GAIN:
        reason = f"that made it no better (normalised mutual information {before:.3f} before, {after:.3f} after)"
    median, high = np.percentile(lengths, (50, 95))
    moved = (float(median), float(high), float(lengths.max()))
    return Quality(not reason, reason, before, after, moved, folded, seconds)


def _one_to_one(field: sitk.Image) -> np.ndarray:
    """The Jacobian determinant of x -> x + field(x), from differences along the grid's own axes; (k, j, i)."""
    vectors = sitk.GetArrayViewFromImage(field)
    step = np.array(field.GetDirection()).reshape(3, 3) * np.array(field.GetSpacing())
    # Columns of `step` are what one voxel along i, j, k is in millimetres.
    gradient = np.stack([np.gradient(vectors, axis=axis) for axis in (2, 1, 0)], axis=-1)
    return np.asarray(np.linalg.det(np.eye(3) + gradient @ np.linalg.inv(step)))


def _onto(floating: sitk.Image, still: sitk.Image, transform: sitk.Transform) -> sitk.Image:
    return sitk.Resample(floating, still, transform, sitk.sitkLinear, float("nan"), sitk.sitkFloat32)


def _likeness(still: sitk.Image, moved: sitk.Image, body: sitk.Image) -> float:
    a, b = (sitk.GetArrayViewFromImage(each) for each in (still, moved))
    shared = (sitk.GetArrayViewFromImage(body) > 0) & np.isfinite(b)
    return normalised_mutual_information(a[shared], b[shared]) if shared.any() else 1.0
