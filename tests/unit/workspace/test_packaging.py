"""The lock and the wheels: what a user gets who has only a package index."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]
PACKAGES = ("pose_analyzer", "gpu_optimizer", "client")


@pytest.fixture(scope="module")
def lock() -> str:
    """Return the text of requirements.lock."""
    return (REPOSITORY / "requirements.lock").read_text()


def normalised(requirement: str) -> str:
    """Return the package a requirement names, as indexes spell it."""
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert match is not None
    return re.sub(r"[-_.]+", "-", match[0]).lower()


def test_the_lock_names_no_index_and_no_path(lock: str) -> None:
    assert not re.search(r"://|--index|--find-links|file:| @ |^ *(/|\.\.)", lock, re.MULTILINE)


def test_every_entry_of_the_lock_is_exact_and_hashed(lock: str) -> None:
    entries = re.split(r"^(?=[a-z0-9])", lock, flags=re.MULTILINE)[1:]
    assert len(entries) > 50
    assert [entry for entry in entries if "==" not in entry or "--hash=sha256:" not in entry] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_the_lock_serves_everything_a_package_asks_for(lock: str, package: str) -> None:
    project = tomllib.loads((REPOSITORY / package / "pyproject.toml").read_text())["project"]
    extras = project.get("optional-dependencies", {}).values()
    wanted = [*project["dependencies"], *(item for extra in extras for item in extra)]
    locked = set(re.findall(r"^([a-z0-9._-]+)==", lock, re.MULTILINE))
    asked = {normalised(item) for item in wanted} - {project["name"]}
    assert asked - {re.sub(r"[-_.]+", "-", name) for name in locked} == set()


def test_one_build_of_cv2_is_locked(lock: str) -> None:
    builds = re.findall(r"^(opencv[a-z-]*)==", lock, re.MULTILINE)
    assert builds == ["opencv-contrib-python-headless"]


def test_the_manifest_holds_what_the_conda_lock_was_solved_for() -> None:
    manifest = tomllib.loads((REPOSITORY / "pixi.toml").read_text())
    assert manifest.pop("tasks")
    assert manifest == {
        "workspace": {
            "channels": ["conda-forge"],
            "platforms": ["linux-64"],
            "requires-pixi": ">=0.68",
        },
        "dependencies": {"python": "3.11.*", "uv": "*"},
    }


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the wheels of the three packages, built without a network."""
    folder = tmp_path_factory.mktemp("wheels")
    for package in PACKAGES:
        build = (
            "import hatchling.build, sys; print(hatchling.build.build_wheel(sys.argv[1]), end='')"
        )
        subprocess.run(
            [sys.executable, "-c", build, str(folder)],
            cwd=REPOSITORY / package,
            check=True,
            capture_output=True,
        )
    return {path.name.partition("-")[0]: path for path in folder.glob("*.whl")}


def test_each_package_builds_a_wheel_with_its_type_marker(wheels: dict[str, Path]) -> None:
    assert sorted(wheels) == ["gpu_optimizer", "pose_analyzer", "pose_analyzer_client"]
    for name, path in wheels.items():
        assert f"{name}/py.typed" in zipfile.ZipFile(path).namelist()


def test_the_wheel_carries_every_exercise(wheels: dict[str, Path]) -> None:
    packed = {
        Path(name).name
        for name in zipfile.ZipFile(wheels["pose_analyzer"]).namelist()
        if name.startswith("pose_analyzer/_exercises/")
    }
    assert packed == {path.name for path in (REPOSITORY / "config/exercises").glob("*.yaml")}


def test_the_wheel_carries_the_measured_noise(wheels: dict[str, Path]) -> None:
    names = zipfile.ZipFile(wheels["pose_analyzer"]).namelist()
    assert "pose_analyzer/_detector_noise/mediapipe.npz" in names


def test_the_wheel_carries_every_reference(wheels: dict[str, Path]) -> None:
    packed = {
        name.removeprefix("pose_analyzer/_references/")
        for name in zipfile.ZipFile(wheels["pose_analyzer"]).namelist()
        if name.startswith("pose_analyzer/_references/")
    }
    folder = REPOSITORY / "data/pose_references"
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert packed == present != set()


def test_the_wheel_carries_the_recogniser_of_exercises(wheels: dict[str, Path]) -> None:
    packed = zipfile.ZipFile(wheels["pose_analyzer"]).getinfo("pose_analyzer/exercise_model.npz")
    assert 10_000 < packed.file_size < 100_000


def test_the_wheel_carries_the_assets_of_the_html_report(wheels: dict[str, Path]) -> None:
    names = zipfile.ZipFile(wheels["pose_analyzer"]).namelist()
    assert {
        "pose_analyzer/report/assets/report.css",
        "pose_analyzer/report/assets/report.js",
    } <= set(names)


@pytest.mark.slow
def test_the_base_install_imports_neither_cv2_nor_torch(wheels: dict[str, Path]) -> None:
    """The analysers from the wheel alone, with every optional library made unimportable."""
    program = """
import importlib, pkgutil, sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in BLOCKED:
            raise ModuleNotFoundError(f'{name} is optional', name=name)
BLOCKED = {'cv2', 'torch', 'torchvision', 'mediapipe', 'ultralytics', 'av', 'tqdm', 'fastapi',
           'pydantic', 'onnxruntime', 'openvino', 'matplotlib'}
sys.meta_path.insert(0, Absent())
sys.path.insert(0, sys.argv[1])
import pose_analyzer, pose_analyzer.exercise_file
assert pose_analyzer.__file__.startswith(sys.argv[1]), pose_analyzer.__file__
assert pose_analyzer.exercise_file.exercise_names()
for name in sys.argv[2:]:
    importlib.import_module('pose_analyzer.' + name)
"""
    core = [
        "types",
        "skeleton",
        "errors",
        "exercises",
        "exercise_file",
        "biomechanics",
        "form_measures",
        "exercise_recognizer",
        "kalman_smoother",
        "pose_tracker",
        "temporal_analyzer",
        "rep_counter",
        "form_scorer",
        "form_anomaly_detector",
        "coaching",
        "pipeline",
        "references",
        "speech",
        "report.tables",
        "report.html",
    ]
    unpacked = wheels["pose_analyzer"].with_suffix("")
    zipfile.ZipFile(wheels["pose_analyzer"]).extractall(unpacked)
    done = subprocess.run(
        [sys.executable, "-c", program, str(unpacked), *core],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
