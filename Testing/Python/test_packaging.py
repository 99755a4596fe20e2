"""What ships: the files that CMake lists and installs into Slicer, the wheel, and what both ask for."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
LIBRARY = REPOSITORY / "LiverTumorSegLib"

# Stand-ins for what find_package(Slicer) brings: they take the same arguments, copy nothing at build time, and
# install what they are given. As in Slicer, a listed file that is missing is fatal.
SLICER_CONFIG = r"""
set(Slicer_USE_FILE ${CMAKE_CURRENT_LIST_DIR}/use.cmake)
set(Slicer_EXTENSION_GENERATE_CONFIG ${CMAKE_CURRENT_LIST_DIR}/nothing.cmake)
set(Slicer_EXTENSION_CPACK ${CMAKE_CURRENT_LIST_DIR}/nothing.cmake)
set(Slicer_QTSCRIPTEDMODULES_LIB_DIR lib/qt-scripted-modules)
set(Slicer_INSTALL_QTSCRIPTEDMODULES_LIB_DIR lib/qt-scripted-modules)
"""
SLICER_USE = r"""
function(ctkMacroCompilePythonScript)
  cmake_parse_arguments(IN "NO_INSTALL_SUBDIR" "TARGET_NAME;DESTINATION_DIR;INSTALL_DIR" "SCRIPTS;RESOURCES" ${ARGN})
  foreach(file IN LISTS IN_SCRIPTS IN_RESOURCES)
    configure_file(${CMAKE_CURRENT_SOURCE_DIR}/${file} ${IN_DESTINATION_DIR}/${file} COPYONLY)
  endforeach()
  if(IN_NO_INSTALL_SUBDIR)
    string(APPEND IN_DESTINATION_DIR "/")
  endif()
  install(DIRECTORY ${IN_DESTINATION_DIR} DESTINATION ${IN_INSTALL_DIR})
endfunction()
function(slicerMacroBuildScriptedModule)
  cmake_parse_arguments(IN "WITH_GENERIC_TESTS;WITH_SUBDIR;VERBOSE" "NAME" "SCRIPTS;RESOURCES" ${ARGN})
  if(IN_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "unknown: ${IN_UNPARSED_ARGUMENTS}")
  endif()
  ctkMacroCompilePythonScript(TARGET_NAME ${IN_NAME} SCRIPTS "${IN_SCRIPTS}" RESOURCES "${IN_RESOURCES}"
    DESTINATION_DIR ${CMAKE_BINARY_DIR}/${Slicer_QTSCRIPTEDMODULES_LIB_DIR}
    INSTALL_DIR ${Slicer_INSTALL_QTSCRIPTEDMODULES_LIB_DIR} NO_INSTALL_SUBDIR)
endfunction()
function(slicer_add_python_unittest)
  cmake_parse_arguments(IN "" "SCRIPT" "" ${ARGN})
  if(NOT EXISTS ${IN_SCRIPT})
    message(FATAL_ERROR "no such test script: ${IN_SCRIPT}")
  endif()
endfunction()
"""
# A compiler is asked for by project() and never used.
TOOLCHAIN = """
foreach(language C CXX)
  set(CMAKE_${language}_COMPILER "${CMAKE_COMMAND}")
  set(CMAKE_${language}_COMPILER_FORCED TRUE)
  set(CMAKE_${language}_COMPILER_ID_RUN TRUE)
endforeach()
"""


def python_names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.py"))


def listed_in_cmake(folder: str, variable: str) -> list[str]:
    text = (REPOSITORY / folder / "CMakeLists.txt").read_text(encoding="utf-8").replace("${MODULE_NAME}", folder)
    match = re.search(rf"set\({variable}\s([^)]*)\)", text)
    assert match, f"{folder}/CMakeLists.txt: no set({variable} ...)"
    return match.group(1).split()


def shipped_resources() -> set[str]:
    """Return the files of Resources/ that the library needs, without the Extensions Manager's pictures."""
    folder = REPOSITORY / "Resources"
    files = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    kept = {path for path in files if path.parts[0] not in {"Icons", "Screenshots"}}
    return {path.as_posix() for path in kept if not (len(path.parts) == 1 and path.suffix == ".png")}


def test_cmake_lists_every_python_file_of_the_library_in_order() -> None:
    assert listed_in_cmake("LiverTumorSegLib", "LIBRARY_PYTHON_SCRIPTS") == python_names(LIBRARY)


def test_cmake_lists_every_file_of_the_module() -> None:
    folder = REPOSITORY / "LiverTumorSeg"
    listed = listed_in_cmake("LiverTumorSeg", "MODULE_PYTHON_SCRIPTS")
    listed += listed_in_cmake("LiverTumorSeg", "MODULE_PYTHON_RESOURCES")
    on_disk = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file() and p.suffix != ".pyc"}
    assert set(listed) == on_disk - {"CMakeLists.txt"}


def test_the_index_entry_has_only_the_keys_of_its_schema() -> None:
    entry = json.loads((REPOSITORY / "LiverTumorSeg.json").read_text(encoding="utf-8"))
    optional = {"scm_revision", "scm_type", "build_dependencies", "dicom_support_rule", "build_subdirectory", "enabled"}
    assert {"$schema", "category", "scm_url"} <= entry.keys() <= {"$schema", "category", "scm_url", "tier"} | optional
    depends = re.search(r'EXTENSION_DEPENDS "([^"]*)"', (REPOSITORY / "CMakeLists.txt").read_text(encoding="utf-8"))
    assert depends
    assert depends.group(1).split() == entry["build_dependencies"]


def test_requirements_of_the_slicer_module_are_dependencies_of_the_library() -> None:
    named = re.compile(r"^\s*\"?([A-Za-z][\w.-]*)\s*(?:\[|[<>=!~]|\"|$)", re.MULTILINE)
    wanted = (REPOSITORY / "LiverTumorSeg/Resources/requirements.txt").read_text(encoding="utf-8")
    ours_and_extras = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    known = {name.lower() for name in named.findall(ours_and_extras)}
    assert {name.lower() for name in named.findall(wanted)} <= known
    assert "==" not in wanted, "Slicer's own packages decide the versions: no exact pins"


def test_the_bundle_stays_under_ten_megabytes_and_all_that_ships_beside_them_under_one() -> None:
    bytes_of: dict[str, int] = {}
    for name in shipped_resources():
        parts = Path(name).parts
        place = "/".join(parts[:2]) if parts[0] == "Bundles" else "the rest"
        bytes_of[place] = bytes_of.get(place, 0) + (REPOSITORY / "Resources" / name).stat().st_size
    assert bytes_of.keys() == {"Bundles/default", "the rest"}
    assert bytes_of.pop("the rest") <= 1e6
    assert max(bytes_of.values()) <= 10e6


def test_the_extension_installs_the_module_the_library_and_its_resources(tmp_path: Path) -> None:
    cmake = shutil.which("cmake", path=str(Path(sys.executable).parent)) or shutil.which("cmake")
    if cmake is None:
        pytest.skip("needs cmake: pip install cmake")
    stand_in = tmp_path / "slicer"
    stand_in.mkdir()
    for name, text in {"SlicerConfig": SLICER_CONFIG, "use": SLICER_USE, "nothing": "", "tools": TOOLCHAIN}.items():
        (stand_in / f"{name}.cmake").write_text(text, encoding="utf-8")
    build, installed = tmp_path / "build", tmp_path / "installed"
    options = [f"-DSlicer_DIR={stand_in}", f"-DCMAKE_TOOLCHAIN_FILE={stand_in / 'tools.cmake'}", "-DBUILD_TESTING=ON"]
    for command in (
        [cmake, "-S", str(REPOSITORY), "-B", str(build), *options],
        [cmake, "--install", str(build), "--prefix", str(installed)],
    ):
        result = subprocess.run(command, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr

    modules = installed / "lib" / "qt-scripted-modules"
    assert {p.name for p in modules.glob("*.py")} == {"LiverTumorSeg.py"}, "each .py here is taken for a module"
    library = modules / "LiverTumorSegLib"
    assert {p.relative_to(library) for p in library.rglob("*.py")} == {
        p.relative_to(LIBRARY) for p in LIBRARY.rglob("*.py")
    }
    resources = library / "Resources"
    assert {p.relative_to(resources).as_posix() for p in resources.rglob("*") if p.is_file()} == shipped_resources()


def test_the_wheel_carries_the_library_and_its_resources(tmp_path: Path) -> None:
    pytest.importorskip("hatchling", reason="needs hatchling: pip install hatchling")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    (wheel,) = tmp_path.glob("*.whl")
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    expected = {f"LiverTumorSegLib/{name}" for name in python_names(LIBRARY)}
    expected |= {f"LiverTumorSegLib/Resources/{name}" for name in shipped_resources()}
    assert names == expected | {"LiverTumorSegLib/py.typed"}
