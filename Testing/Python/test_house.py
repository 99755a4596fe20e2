"""The rules of CONTRIBUTING.md that a program can check: layers, imports, sizes, and what may be tracked."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
LIBRARY = REPOSITORY / "LiverTumorSegLib"

# From the bottom up; a module imports from its own layer and those below.
LAYERS = (
    {"dicom", "dicom_frames", "dicom_stack", "errors", "images", "itk_reader", "json_text", "nifti", "recipe"}
    | {"resources", "scans"},
    {"body", "bundle", "calibration", "detection", "diameters", "filters", "geometry", "lesions", "matching"}
    | {"networks", "outlines", "phases", "postprocessing", "preprocessing", "registration", "restoring"}
    | {"segmentation", "views", "windows"},
    {"inference"},
    {"cluster", "cohort", "datasets", "evaluation", "exchange", "output", "rendering", "rendering_vtk", "report"}
    | {"segmenter", "systems", "training"},
    {"correction"},
    {"", "__main__", "commands", "console", "panel", "scene", "worker"},  # "" is LiverTumorSegLib/__init__.py
)

AT_FILE_SCOPE = sys.stdlib_module_names | {"LiverTumorSegLib", "numpy", "SimpleITK"}
# Files that are nothing without torch may open it; no import of the package or its command line reaches them.
COMPUTES = {"cc3d", "edt", "fill_voids", "monai", "safetensors", "torch"}
ALSO_AT_FILE_SCOPE = {"networks": COMPUTES, "training": COMPUTES, "scene": {"slicer", "vtk"}}
SLOW_TO_IMPORT = ("torch", "monai", "openvino", "vtk", "matplotlib", "jinja2", "PIL", "scipy")
STARTED_BY_USERS = ("", "__main__", "commands", "worker")  # whose import somebody waits for


@dataclass(frozen=True)
class Import:
    """One name that a module of the library imports: `target` is dotted, ours without the package's name."""

    line: int
    target: str
    ours: bool
    at_file_scope: bool


def python_files() -> list[Path]:
    return [path for path in repository_files() if path.suffix == ".py"]


@cache
def repository_files() -> list[Path]:
    """Return what git tracks or would track; a test that needs it is skipped outside a clone."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listing = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"needs git and a clone: {getattr(error, 'stderr', None) or error}")
    return [path for name in listing.split("\0") if name and (path := REPOSITORY / name).is_file()]


@cache
def library_modules() -> dict[str, Path]:
    """Return dotted names within the package ("" for its __init__) and their files."""
    modules = {}
    for path in sorted(LIBRARY.rglob("*.py")):
        parts = path.relative_to(LIBRARY).with_suffix("").parts
        modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return modules


def nodes_that_run(node: ast.AST, at_file_scope: bool = True) -> Iterator[tuple[ast.AST, bool]]:
    """Walk a module without its `if TYPE_CHECKING:` blocks; say of each node whether importing the module runs it."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child, at_file_scope
        in_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        yield from nodes_that_run(child, at_file_scope and not in_function)


@cache
def imports_of(module: str) -> list[Import]:
    path = library_modules()[module]
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    package = [part for part in package if part]
    found = []
    for node, at_file_scope in nodes_that_run(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [absolute(alias.name, node.lineno, at_file_scope) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1] + (node.module or "").split(".")
            for alias in node.names:
                found.append(Import(node.lineno, ours(base, alias.name), True, at_file_scope))
        elif isinstance(node, ast.ImportFrom):
            found += [absolute(f"{node.module}.{alias.name}", node.lineno, at_file_scope) for alias in node.names]
    # The version stands in the package's __init__ so that the build finds it; taking it from there is no dependency.
    return [item for item in found if not (item.ours and item.target == "__version__")]


def absolute(name: str, line: int, at_file_scope: bool) -> Import:
    root, *rest = name.split(".")
    if root != LIBRARY.name:
        return Import(line, root, False, at_file_scope)
    return Import(line, ours(rest[:-1], rest[-1] if rest else ""), True, at_file_scope)


def ours(base: list[str], name: str) -> str:
    """Return the module that `from base import name` needs: the submodule, or the module that has the name."""
    parent = ".".join(part for part in base if part)
    inner = f"{parent}.{name}" if parent and name else parent or name
    if inner in library_modules() or inner == "__version__":
        return inner
    return parent


def layer_of(module: str) -> int:
    for height, names in enumerate(LAYERS):
        if module.split(".")[0] in names:
            return height
    raise AssertionError(f"LiverTumorSegLib/{module}: in no layer; say in test_house.LAYERS where it belongs")


def test_modules_import_from_their_own_layer_or_below() -> None:
    upward = [
        f"{path.relative_to(REPOSITORY)}:{item.line} imports {item.target or 'the package itself'}"
        for module, path in library_modules().items()
        for item in imports_of(module)
        if item.ours and layer_of(item.target) > layer_of(module)
    ]
    assert not upward, "\n" + "\n".join(upward)


def test_no_module_imports_itself_through_others() -> None:
    needs = {name: {i.target for i in imports_of(name) if i.ours and i.target != name} for name in library_modules()}
    while True:
        needed = set().union(*needs.values())
        circles = {
            name: found & needs.keys() for name, found in needs.items() if name in needed and found & needs.keys()
        }
        if circles == needs:
            break
        needs = circles
    assert not needs, "\n" + "\n".join(f"{name} needs {sorted(targets)}" for name, targets in sorted(needs.items()))


def test_opening_a_module_imports_only_the_standard_library_numpy_and_simpleitk() -> None:
    heavy = [
        f"{path.relative_to(REPOSITORY)}:{item.line} imports {item.target} at file scope"
        for module, path in library_modules().items()
        for item in imports_of(module)
        if item.at_file_scope
        and not item.ours
        and item.target not in AT_FILE_SCOPE | ALSO_AT_FILE_SCOPE.get(module.split(".")[0], set())
    ]
    assert not heavy, "\n" + "\n".join(heavy)


def test_only_the_scene_package_knows_slicer() -> None:
    users = {module for module in library_modules() for item in imports_of(module) if item.target == "slicer"}
    assert {module.split(".")[0] for module in users} == {"scene"}


@pytest.mark.parametrize("module", [name for name in STARTED_BY_USERS if name in library_modules()])
def test_importing_it_loads_no_slow_library(module: str) -> None:
    name = f"{LIBRARY.name}.{module}" if module else LIBRARY.name
    program = f"import sys, {name}; print([name for name in {SLOW_TO_IMPORT} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True)
    assert (result.stdout.strip(), result.returncode) == ("[]", 0), result.stderr


def test_every_exported_name_exists() -> None:
    import LiverTumorSegLib

    assert LiverTumorSegLib.__all__
    missing = [name for name in LiverTumorSegLib.__all__ if not hasattr(LiverTumorSegLib, name)]
    assert not missing, "\n" + "\n".join(missing)


def test_no_file_is_longer_than_400_lines_and_no_function_than_70() -> None:
    long = []
    for path in python_files():
        text = path.read_text(encoding="utf-8")
        if text.count("\n") > 400:
            long.append(f"{path.relative_to(REPOSITORY)}: {text.count(chr(10))} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > 70:
                    long.append(f"{path.relative_to(REPOSITORY)}:{node.lineno} {node.name}: {lines} lines")
    assert not long, "\n" + "\n".join(long)


def test_no_scan_and_no_pickle_is_tracked() -> None:
    forbidden = re.compile(
        r"\.(nii|nii\.gz|dcm|ima|img|hdr|mgz|mha|mhd|raw|nrrd|nhdr|mrb|pt|pth|pkl|pickle|ckpt)$", re.IGNORECASE
    )
    found = [str(p.relative_to(REPOSITORY)) for p in repository_files() if forbidden.search(p.name)]
    found += [str(p.relative_to(REPOSITORY)) for p in repository_files() if p.read_bytes()[128:132] == b"DICM"]
    assert not found, "\n" + "\n".join(found)


def test_no_text_names_a_machine_path_or_a_package_index() -> None:
    # Written in pieces, so that this file passes its own test.
    roots = "|".join(["work", "root", "home", "Users", "opt", "mnt"])
    hosts = "|".join([r"pypi\.org", r"pythonhosted\.org", r"download\.pytorch\.org"])
    options = "|".join(["index-url", "find-links", "trusted-host"])
    forbidden = re.compile(rf"(?<![\w.:/*}})$])/(?:{roots})/\w|(?:{hosts})|--?(?:extra-)?(?:{options})\b")
    found = []
    for path in repository_files():
        if path.stat().st_size < 1 << 20 and b"\0" not in (content := path.read_bytes()):
            for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), 1):
                if match := forbidden.search(line):
                    found.append(f"{path.relative_to(REPOSITORY)}:{number}: {match.group()}")
    assert not found, "\n" + "\n".join(found)


def test_the_readme_names_only_commands_that_exist() -> None:
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"```.*?```|`[^`\n]+`", readme, re.DOTALL))
    targets = set(re.findall(r"\bmake ([a-z][a-z-]*)", code))
    assert targets <= set(re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE))

    shown = subprocess.run(
        [sys.executable, "-m", LIBRARY.name, "--help"], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert shown.returncode == 0, shown.stderr
    subcommands = set(re.findall(r"\blivertumorseg ([a-z][a-z-]*)", code))
    assert subcommands <= set(re.findall(r"[a-z][a-z-]*", shown.stdout))
