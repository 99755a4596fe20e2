"""A bundle: a folder with a recipe, its weights, where they came from, and a checksum of every file.

    recipe.json                    what the cascade is
    weights/<stage>.safetensors    numbers only
    openvino/<stage>.xml, .rest    the same network for OpenVINO (see `networks.constants`), or .xml, .bin; optional
    model_card.md                  for people
    metadata.json                  MONAI's bundle fields, and the licences of what it was trained on
    checksums.json                 relative path -> SHA-256, for every other file

Reading a bundle executes nothing. Everything is checked before anything is used.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from .errors import BundleError, RecipeError
from .networks.weights import check_weights
from .recipe import Recipe, Stage, load_recipe, recipe_to_json
from .resources import resource_path, user_path

CHECKSUMS = "checksums.json"
MAX_UNZIPPED = 4 << 30  # bytes; a small zip can claim to be any size
METADATA_KEYS = (
    "version", "monai_version", "pytorch_version", "task", "description", "authors", "copyright",
    "network_data_format", "intended_use", "references", "data_source", "data_type", "data_licences",
)  # fmt: skip


@dataclass(frozen=True)
class Bundle:
    """A checked bundle.

    Attributes:
        path: the folder where it is.
        recipe: the cascade.
        metadata: MONAI's bundle fields.
        sha256: one checksum for the whole bundle.
    """

    path: Path
    recipe: Recipe
    metadata: dict[str, Any]
    sha256: str

    @classmethod
    def load(cls, path_or_name: Path | str) -> Bundle:
        """Read and check a bundle.

        Args:
            path_or_name: its folder, or the name of one that `list_bundles` knows.

        Raises:
            BundleError: not there, incomplete, or changed after it was sealed; names the file.
            RecipeError: its recipe is not valid.
        """
        folder = _find(path_or_name)
        sums = check_sums(folder)
        for name in ("recipe.json", "metadata.json", "model_card.md"):
            if name not in sums:
                raise BundleError(f"{folder}: wanted a file {name}, got {', '.join(sorted(sums))}")
        recipe = load_recipe(folder / "recipe.json")
        metadata = _load_metadata(folder / "metadata.json")
        bundle = cls(folder, recipe, metadata, hashlib.sha256(_canonical(sums).encode()).hexdigest())
        for stage in recipe.stages:
            bundle._check_stage(stage, sums)
        return bundle

    @property
    def name(self) -> str:
        """Its folder's name."""
        return self.path.name

    @property
    def version(self) -> str:
        """The version of its weights."""
        return str(self.metadata["version"])

    def stage(self, name: str) -> Stage:
        """The recipe's stage of that name.

        Raises:
            RecipeError: there is none.
        """
        for stage in self.recipe.stages:
            if stage.name == name:
                return stage
        known = ", ".join(stage.name for stage in self.recipe.stages)
        raise RecipeError(f"{self.path}: stage: wanted one of {known}, got {name!r}")

    def weights_path(self, stage_name: str) -> Path:
        """The safetensors file of one stage."""
        return self.path / "weights" / f"{stage_name}.safetensors"

    def openvino_path(self, stage_name: str) -> Path | None:
        """The OpenVINO file (.xml) of one stage, or None where the bundle has none."""
        path = self.path / "openvino" / f"{stage_name}.xml"
        return path if path.is_file() else None

    def _check_stage(self, stage: Stage, sums: dict[str, str]) -> None:
        weights = f"weights/{stage.name}.safetensors"
        if weights not in sums:
            raise BundleError(f"{self.path}: stage {stage.name}: wanted {weights}, it is missing")
        check_weights(self.path / weights)
        layers, *numbers = (f"openvino/{stage.name}{suffix}" in sums for suffix in (".xml", ".rest", ".bin"))
        if sum(numbers) != layers:
            wanted = "openvino .xml and one of .rest and .bin, or none of them"
            raise BundleError(f"{self.path}: stage {stage.name}: wanted {wanted}, got others")


def list_bundles() -> dict[str, Path]:
    """Name -> folder of every bundle that ships with the program or was imported; not yet checked."""
    found: dict[str, Path] = {}
    for root in (user_path("Bundles"), resource_path("Bundles")):  # a shipped name wins
        if root.is_dir():
            found.update({each.name: each for each in sorted(root.iterdir()) if (each / CHECKSUMS).is_file()})
    return dict(sorted(found.items()))


def seal_bundle(folder: Path) -> str:
    """Write checksums.json for what the folder holds now, all or nothing.

    Returns:
        The checksum of the whole, which `Bundle.sha256` will be.

    Raises:
        BundleError: the folder holds a link, or something that is not a plain file.
    """
    text = _canonical({name: _sha256(folder / name) for name in _files(folder)})
    partial = folder / f"{CHECKSUMS}.partial"
    try:
        partial.write_bytes(text.encode())
        os.replace(partial, folder / CHECKSUMS)
    finally:
        partial.unlink(missing_ok=True)
    return hashlib.sha256(text.encode()).hexdigest()


def import_bundle(source: Path, name: str | None = None) -> Path:
    """Copy a bundle into the user's own folder, all or nothing.

    Args:
        source: a bundle's folder, or a .zip of one (with or without a top folder).
        name: what to call it; by default as the source is called.

    Returns:
        The new folder. Importing the same bundle twice changes nothing.

    Raises:
        BundleError: not a whole bundle, a zip that reaches outside itself, a name that is taken, or a copy that cannot
            be written.
    """
    source = Path(source)
    name = name or (source.stem if source.is_file() else source.resolve().name)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        raise BundleError(f"bundle name: wanted letters, digits, '.', '_' and '-', got {name!r}")
    target = user_path("Bundles", name)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".import-", dir=target.parent) as scratch:
            incoming = _copied(source, Path(scratch) / name)
            new = Bundle.load(incoming)
            if name in list_bundles():
                if Bundle.load(name).sha256 != new.sha256:
                    raise BundleError(f"bundle name: wanted one that is free, got {name!r}, which is another bundle")
                return list_bundles()[name]
            os.replace(incoming, target)
    except OSError as error:
        raise BundleError(f"{target}: the bundle cannot be imported: {error.strerror or error}") from error
    return target


def write_variant(bundle: Bundle, folder: Path, recipe: Recipe, metadata: dict[str, Any], card: str) -> Bundle:
    """Write a bundle with the weights and all other files of another one, all or nothing; that one stays as it is.

    Args:
        bundle: whose weights.
        folder: the new bundle; it must not be there yet.
        recipe, metadata, card: what is in the place of the old bundle's.

    Raises:
        BundleError: the folder is there already, or cannot be written.
    """
    folder = Path(folder)
    if folder.exists():
        raise BundleError(f"bundle: wanted a new folder, got {folder}, which is there already")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".new-", dir=folder.parent) as scratch:
            copy = Path(scratch) / folder.name
            shutil.copytree(bundle.path, copy)
            (copy / "recipe.json").write_text(recipe_to_json(recipe), encoding="utf-8")
            (copy / "metadata.json").write_text(json.dumps(metadata, indent=2) + "\n", encoding="utf-8")
            (copy / "model_card.md").write_text(card, encoding="utf-8")
            seal_bundle(copy)
            os.replace(copy, folder)
    except OSError as error:
        raise BundleError(f"{folder}: the bundle cannot be written: {error.strerror or error}") from error
    return Bundle.load(folder)


def check_sums(folder: Path) -> dict[str, str]:
    """The checksums of a sealed folder, after comparing every file with them.

    Raises:
        BundleError: a file changed, is missing, or is not listed; names it.
    """
    path = folder / CHECKSUMS
    sums = _load_object(path)
    for name, value in sums.items():
        if not isinstance(value, str) or not re.fullmatch(r"[0-9a-f]{64}", value):
            raise BundleError(f"{path}: {name}: wanted a SHA-256 in hexadecimal, got {value!r}")
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or re.search(r"[\\:\0]", name):
            raise BundleError(f"{path}: wanted paths inside the bundle, got {name!r}")
    present = _files(folder)
    for name in sums:
        if name not in present:
            raise BundleError(f"{folder}: wanted file {name}, which {CHECKSUMS} lists; it is missing")
    for name in present:
        if name not in sums:
            raise BundleError(f"{folder}: wanted only files that {CHECKSUMS} lists, got also {name}")
        got = _sha256(folder / name)
        if got != sums[name]:
            raise BundleError(f"{folder / name}: changed after it was sealed: wanted SHA-256 {sums[name]}, got {got}")
    return sums


def _copied(source: Path, folder: Path) -> Path:
    """Copy or unpack a bundle into a new folder; where in it the bundle lies."""
    if source.is_dir():
        _files(source)  # refuses links before anything is copied
        shutil.copytree(source, folder)
        return folder
    _unzip(source, folder)
    inner = [each for each in folder.iterdir() if each.name != "__MACOSX"]
    return inner[0] if len(inner) == 1 and inner[0].is_dir() else folder


def _unzip(source: Path, folder: Path) -> None:
    """Unpack plain files that stay inside `folder`."""
    try:
        with zipfile.ZipFile(source) as archive:
            entries = archive.infolist()
            if sum(each.file_size for each in entries) > MAX_UNZIPPED:
                raise BundleError(f"{source}: wanted at most {MAX_UNZIPPED} bytes unpacked")
            for each in entries:
                parts = PurePosixPath(each.filename).parts
                outside = each.filename.startswith("/") or ".." in parts or re.search(r"[\\:\0]", each.filename)
                if outside or stat.S_ISLNK(each.external_attr >> 16):
                    raise BundleError(f"{source}: wanted plain files inside the bundle, got {each.filename!r}")
            archive.extractall(folder)
    # RuntimeError is an encrypted file, or one packed in a way that Python does not know.
    except (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise BundleError(f"{source}: wanted a bundle's folder or .zip, got {error}") from error


def _find(path_or_name: Path | str) -> Path:
    known = list_bundles()
    if isinstance(path_or_name, str) and path_or_name in known:
        return known[path_or_name]
    folder = Path(path_or_name)
    if not folder.is_dir():
        names = ", ".join(known) or "none"
        raise BundleError(f"bundle: wanted a folder or one of the installed bundles ({names}), got {path_or_name}")
    return folder.resolve()


def _files(folder: Path) -> list[str]:
    """Relative paths, with forward slashes, of every file but the checksums."""
    names = []
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise BundleError(f"{path}: wanted plain files and folders in a bundle, got a link or a special file")
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name != CHECKSUMS:
            names.append(name)
    return names


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _canonical(sums: dict[str, str]) -> str:
    return json.dumps(sums, indent=2, sort_keys=True) + "\n"


def _load_object(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BundleError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise BundleError(f"{path}: wanted JSON, got {error}") from error
    if not isinstance(document, dict):
        raise BundleError(f"{path}: wanted an object, got {type(document).__name__}")
    return document


def _load_metadata(path: Path) -> dict[str, Any]:
    metadata = _load_object(path)
    missing = [key for key in METADATA_KEYS if key not in metadata]
    if missing:
        raise BundleError(f"{path}: wanted the keys {', '.join(METADATA_KEYS)}; missing: {', '.join(missing)}")
    return metadata
