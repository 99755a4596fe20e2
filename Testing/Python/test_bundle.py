"""Bundles: what a whole one looks like, how a damaged one is refused, how one is imported."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from LiverTumorSegLib.bundle import CHECKSUMS, METADATA_KEYS, Bundle, import_bundle, list_bundles, seal_bundle
from LiverTumorSegLib.errors import BundleError, RecipeError
from LiverTumorSegLib.inference import open_engine
from LiverTumorSegLib.networks.constants import read_constants, share_constants
from LiverTumorSegLib.recipe import Crop, Grid, Recipe, Stage, recipe_to_json
from LiverTumorSegLib.resources import resource_path, user_path

NETWORK = {"channels": [4, 8], "strides": [2], "num_res_units": 1}
RECIPE = Recipe(
    name="small",
    variant="repaired",
    source="a test",
    stages=tuple(Stage(name, "unet", Grid(spacing_mm=4.0, multiple_of=2), NETWORK) for name in ("whole", "crop")),
    crop=Crop(margin_mm=10.0),
)


def write_bundle(folder: Path, openvino: bool = False) -> Path:
    """Write a bundle of two tiny networks with weights of seeds 0 and 1."""
    import torch

    from LiverTumorSegLib.networks import build_network
    from LiverTumorSegLib.networks.export import export_openvino
    from LiverTumorSegLib.networks.weights import load_weights, save_weights

    for part in ("weights", "openvino") if openvino else ("weights",):
        (folder / part).mkdir(parents=True)
    for seed, stage in enumerate(RECIPE.stages):
        torch.manual_seed(seed)
        network = build_network(stage.network, stage.arguments)
        save_weights(network, folder / "weights" / f"{stage.name}.safetensors")
        load_weights(network, folder / "weights" / f"{stage.name}.safetensors")
        if openvino:
            export_openvino(network, folder / "openvino" / f"{stage.name}.xml")
    (folder / "recipe.json").write_text(recipe_to_json(RECIPE), encoding="utf-8")
    (folder / "model_card.md").write_bytes(b"# small\n")
    (folder / "metadata.json").write_text(json.dumps(dict.fromkeys(METADATA_KEYS, "1.2.3")), encoding="utf-8")
    seal_bundle(folder)
    return folder


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "small")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LIVERTUMORSEG_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def zipped(folder: Path, target: Path, top: str = "") -> Path:
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, top + path.relative_to(folder).as_posix())
    return target


def test_a_whole_bundle_loads_with_its_recipe_its_metadata_and_its_paths(small: Path) -> None:
    bundle = Bundle.load(small)
    assert (bundle.name, bundle.version, bundle.recipe, bundle.path) == ("small", "1.2.3", RECIPE, small)
    assert bundle.stage("crop").name == "crop"
    assert bundle.weights_path("whole") == small / "weights" / "whole.safetensors"
    assert bundle.openvino_path("whole") is None
    assert Bundle.load(str(small)) == bundle


def test_every_bundle_that_ships_is_whole_and_at_most_10_mb() -> None:
    shipped = resource_path("Bundles")
    for folder in sorted(shipped.iterdir()) if shipped.is_dir() else []:
        if folder.is_dir():
            assert Bundle.load(folder).recipe.stages
            assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) <= 10_000_000


def test_one_checksum_stands_for_the_whole_bundle(small: Path) -> None:
    before = Bundle.load(small).sha256
    assert seal_bundle(small) == before
    (small / "model_card.md").write_text("# smaller\n", encoding="utf-8")
    after = seal_bundle(small)
    assert after == Bundle.load(small).sha256 != before


def test_sealing_lists_every_file_but_the_list_itself(small: Path) -> None:
    sums = json.loads((small / CHECKSUMS).read_text(encoding="utf-8"))
    files = {path.relative_to(small).as_posix() for path in small.rglob("*") if path.is_file()}
    assert set(sums) == files - {CHECKSUMS}
    # printf '# small\n' | sha256sum
    assert sums["model_card.md"] == "d65210df3b1894ffbe7637ac7fbcdc20b61fd432cc15506381e4ac03376a1ff2"


def test_a_changed_file_is_named_with_both_checksums(small: Path) -> None:
    sums = json.loads((small / CHECKSUMS).read_text(encoding="utf-8"))
    path = small / "weights" / "crop.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(BundleError, match="changed after it was sealed: wanted SHA-256") as caught:
        Bundle.load(small)
    assert str(path) in str(caught.value)
    assert sums["weights/crop.safetensors"] in str(caught.value)


@pytest.mark.parametrize("name", ["recipe.json", "metadata.json", "model_card.md", "weights/crop.safetensors"])
def test_a_missing_file_is_named(name: str, small: Path) -> None:
    (small / name).unlink()
    with pytest.raises(BundleError, match=f"wanted file {name}, which {CHECKSUMS} lists; it is missing"):
        Bundle.load(small)
    seal_bundle(small)
    with pytest.raises(BundleError, match=f"wanted (a file )?{name}"):
        Bundle.load(small)


def test_a_file_that_is_not_listed_is_named(small: Path) -> None:
    (small / "weights" / "extra.py").write_text("", encoding="utf-8")
    with pytest.raises(BundleError, match=r"got also weights/extra\.py"):
        Bundle.load(small)


@pytest.mark.parametrize("text", ["", "[]", '{"recipe.json": 1}', '{"recipe.json": "abc"}'])
def test_checksums_that_are_none_are_refused(text: str, small: Path) -> None:
    (small / CHECKSUMS).write_text(text, encoding="utf-8")
    with pytest.raises(BundleError, match=r"checksums\.json: .*wanted"):
        Bundle.load(small)


def test_a_folder_that_was_never_sealed_is_refused(small: Path) -> None:
    (small / CHECKSUMS).unlink()
    with pytest.raises(BundleError, match=r"checksums\.json: cannot be read"):
        Bundle.load(small)


@pytest.mark.parametrize("name", ["../outside", "/outside", "weights/../../outside", "C:\\outside", "a\\..\\b"])
def test_a_listed_path_that_leaves_the_bundle_is_refused(name: str, small: Path) -> None:
    sums = json.loads((small / CHECKSUMS).read_text(encoding="utf-8"))
    (small / CHECKSUMS).write_text(json.dumps(sums | {name: "0" * 64}), encoding="utf-8")
    with pytest.raises(BundleError, match="wanted paths inside the bundle"):
        Bundle.load(small)


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege on Windows")
@pytest.mark.parametrize("target", ["model_card.md", ".."])
def test_a_link_in_a_bundle_is_refused(target: str, small: Path) -> None:
    (small / "link").symlink_to(target)
    for act in (seal_bundle, Bundle.load, import_bundle):
        with pytest.raises(BundleError, match="got a link or a special file"):
            act(small)


def test_metadata_without_a_licence_of_its_source_is_refused(small: Path) -> None:
    metadata = {key: "" for key in METADATA_KEYS if key != "data_licences"}
    (small / "metadata.json").write_text(json.dumps(metadata), encoding="utf-8")
    seal_bundle(small)
    with pytest.raises(BundleError, match=r"metadata\.json: wanted the keys .*; missing: data_licences$"):
        Bundle.load(small)


def test_a_recipe_with_an_unknown_key_is_refused_with_its_file(small: Path) -> None:
    document = json.loads((small / "recipe.json").read_text(encoding="utf-8"))
    (small / "recipe.json").write_text(json.dumps(document | {"_target_": "os.system"}), encoding="utf-8")
    seal_bundle(small)
    with pytest.raises(RecipeError, match=r"recipe\.json: unknown key '_target_'"):
        Bundle.load(small)


def test_half_of_an_openvino_network_is_refused(small: Path) -> None:
    (small / "openvino").mkdir()
    (small / "openvino" / "whole.xml").write_text("<net/>", encoding="utf-8")
    seal_bundle(small)
    with pytest.raises(BundleError, match=r"stage whole: wanted openvino \.xml and one of"):
        Bundle.load(small)


def test_weights_are_kept_once_and_openvino_computes_the_same_from_them(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "twice", openvino=True)
    image = np.random.default_rng(0).normal(size=(1, 1, 8, 8, 8)).astype(np.float32)
    bundle = Bundle.load(folder)
    before = [open_engine(bundle, stage, precision="f32")(image) for stage in RECIPE.stages]
    numbers = [folder / "openvino" / f"{stage.name}.bin" for stage in RECIPE.stages]
    sizes = [path.stat().st_size for path in numbers]
    for path in numbers:
        share_constants(path.with_suffix(".xml"))
    seal_bundle(folder)
    bundle = Bundle.load(folder)
    after = [open_engine(bundle, stage, precision="f32")(image) for stage in RECIPE.stages]
    assert all(np.array_equal(one, two) for one, two in zip(before, after, strict=True))
    assert not any(path.exists() for path in numbers)
    assert all(path.with_suffix(".rest").stat().st_size < size / 2 for path, size in zip(numbers, sizes, strict=True))


def test_an_openvino_network_without_its_numbers_is_refused(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "none", openvino=True)
    (folder / "openvino" / "whole.bin").unlink()
    with pytest.raises(BundleError, match=r"cannot read its numbers: No such file"):
        read_constants(folder / "openvino" / "whole.xml")


def test_a_name_that_nobody_knows_is_refused_with_the_known_ones(small: Path) -> None:
    import_bundle(small, "first")
    with pytest.raises(BundleError, match=r"one of the installed bundles \(.*first.*\), got second"):
        Bundle.load("second")


def test_a_stage_that_is_not_there_is_refused_with_the_stages(small: Path) -> None:
    with pytest.raises(RecipeError, match="wanted one of whole, crop, got 'third'"):
        Bundle.load(small).stage("third")


@pytest.mark.parametrize("kind", ["folder", "zip", "zip with a top folder", "zip made on a Mac"])
def test_an_imported_bundle_is_found_by_its_name(kind: str, small: Path, tmp_path: Path, home: Path) -> None:
    source = small
    if kind != "folder":
        source = zipped(small, tmp_path / "small.zip", "" if kind == "zip" else "bundle-1.0/")
    if kind == "zip made on a Mac":
        with zipfile.ZipFile(source, "a") as archive:
            archive.writestr("__MACOSX/bundle-1.0/._recipe.json", b"")
    folder = import_bundle(source)
    assert folder == home / "Bundles" / "small" == list_bundles()["small"]
    assert Bundle.load("small").sha256 == Bundle.load(small).sha256
    assert [each.name for each in folder.parent.iterdir()] == ["small"]


def test_importing_the_same_bundle_twice_changes_nothing(small: Path) -> None:
    first = import_bundle(small)
    before = first.stat().st_ino
    assert import_bundle(small) == first
    assert first.stat().st_ino == before


def test_another_bundle_of_the_same_name_is_refused_and_the_first_one_stays(small: Path) -> None:
    import_bundle(small)
    kept = Bundle.load("small").sha256
    (small / "model_card.md").write_text("# other\n", encoding="utf-8")
    seal_bundle(small)
    with pytest.raises(BundleError, match="wanted one that is free, got 'small'"):
        import_bundle(small)
    assert Bundle.load("small").sha256 == kept
    assert import_bundle(small, "other").name == "other"


def test_a_damaged_bundle_is_not_imported_at_all(small: Path, home: Path) -> None:
    (small / "model_card.md").write_text("# changed\n", encoding="utf-8")
    with pytest.raises(BundleError, match="changed after it was sealed"):
        import_bundle(small)
    assert not list((home / "Bundles").iterdir())


@pytest.mark.parametrize("entry", ["../evil.txt", "/evil.txt", "weights/../../evil.txt", "..\\evil.txt", "c:evil.txt"])
def test_a_zip_that_reaches_outside_itself_is_refused(entry: str, small: Path, tmp_path: Path, home: Path) -> None:
    source = zipped(small, tmp_path / "small.zip")
    with zipfile.ZipFile(source, "a") as archive:
        archive.writestr(zipfile.ZipInfo(entry), b"evil")
    with pytest.raises(BundleError, match="wanted plain files inside the bundle"):
        import_bundle(source)
    assert not list(tmp_path.rglob("*evil*"))
    assert not list((home / "Bundles").iterdir())


def test_a_zip_with_a_link_is_refused(small: Path, tmp_path: Path) -> None:
    source = zipped(small, tmp_path / "small.zip")
    link = zipfile.ZipInfo("weights/link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(source, "a") as archive:
        archive.writestr(link, "../../../secret")
    with pytest.raises(BundleError, match="wanted plain files inside the bundle, got 'weights/link'"):
        import_bundle(source)


def test_a_zip_that_unpacks_to_more_than_a_disk_should_give_is_refused(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("LiverTumorSegLib.bundle.MAX_UNZIPPED", 1000)
    with pytest.raises(BundleError, match="wanted at most 1000 bytes unpacked"):
        import_bundle(zipped(small, tmp_path / "small.zip"))


@pytest.mark.parametrize("content", [None, b"", b"PK no zip"])
def test_what_is_no_zip_is_refused(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "small.zip").write_bytes(content)
    with pytest.raises(BundleError, match=r"small\.zip: wanted a bundle's folder or \.zip"):
        import_bundle(tmp_path / "small.zip", "small")


def with_byte(path: Path, place: int, value: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] = value
    path.write_bytes(content)


def test_zips_that_are_encrypted_damaged_or_packed_in_an_unknown_way_are_refused_in_one_line(tmp_path: Path) -> None:
    """The flags of a zip's first entry stand at byte 6, its method at 8; in the list at the end at 8 and at 10."""
    for number, (here, there, value, words) in enumerate(
        ((6, 8, 1, "encrypted"), (8, 10, 99, "compression method"), (30 + len("a.txt"), None, 0xFF, "block type"))
    ):
        source = tmp_path / f"{number}.zip"
        with zipfile.ZipFile(source, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a.txt", b"abc" * 100)
        with_byte(source, here, value)
        if there is not None:
            with_byte(source, source.read_bytes().index(b"PK\1\2") + there, value)
        with pytest.raises(BundleError, match=rf"{number}\.zip: wanted a bundle's folder or \.zip, got .*{words}"):
            import_bundle(source, "small")


def test_a_home_that_cannot_be_written_to_is_refused_in_one_line(small: Path, home: Path) -> None:
    home.write_text("a file, so that nothing can lie in it", encoding="utf-8")
    with pytest.raises(BundleError, match="small: the bundle cannot be imported: Not a directory"):
        import_bundle(small)


def test_a_full_disk_is_one_line(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: Path, target: Path) -> None:
        raise shutil.Error([(str(source), str(target), "No space left on device")])

    monkeypatch.setattr(shutil, "copytree", full)
    with pytest.raises(BundleError, match=r"small: the bundle cannot be imported: .*No space left on device"):
        import_bundle(small)


@pytest.mark.parametrize("name", ["../up", "a/b", ".hidden", "a\\b", "x" * 101, "a b"])
def test_a_name_that_is_no_plain_word_is_refused(name: str, small: Path) -> None:
    with pytest.raises(BundleError, match="bundle name: wanted letters"):
        import_bundle(small, name)


def test_the_users_folder_follows_the_platform(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert user_path("Bundles") == tmp_path / "home" / "Bundles"
    monkeypatch.delenv("LIVERTUMORSEG_HOME")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))
    assert user_path() == tmp_path / "xdg" / "LiverTumorSeg"
    monkeypatch.delenv("XDG_DATA_HOME")
    assert user_path() == Path.home() / ".local" / "share" / "LiverTumorSeg"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert user_path() == Path.home() / "Library" / "Application Support" / "LiverTumorSeg"
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("APPDATA", str(tmp_path / "roaming"))
    assert user_path() == tmp_path / "roaming" / "LiverTumorSeg"


def test_loading_a_bundle_needs_no_torch(small: Path, repository: Path) -> None:
    program = (
        "import sys; from LiverTumorSegLib.bundle import Bundle; Bundle.load(sys.argv[1]);"
        "print({'torch', 'monai', 'openvino', 'safetensors'} & sys.modules.keys())"
    )
    environment = os.environ | {"PYTHONPATH": str(repository)}
    command = [sys.executable, "-c", program, str(small)]
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert (result.stdout.strip(), result.stderr) == ("set()", "")
