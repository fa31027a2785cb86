"""The packages keep to their layers, and each outside library to the module that knows it."""

import ast
import subprocess
import sysconfig
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("store", "extractors", "pave_model", "tasks", "pipelines")
NEVER_IMPORTED = {"torchvision", "torchaudio", "decord", "pytorchvideo"}
# Names that say nothing about what a file holds.
EMPTY_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "misc"}


def modules() -> list[Path]:
    """Every Python file of the five packages."""
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def imported(path: Path) -> Iterator[str]:
    """Top-level names that a file imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def importers(library: str) -> list[str]:
    """The files that import `library`, relative to the repository."""
    return [path.relative_to(ROOT).as_posix() for path in modules() if library in imported(path)]


def test_imports_point_one_way() -> None:
    command = [Path(sysconfig.get_path("scripts")) / "lint-imports", "--no-cache"]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "1 kept, 0 broken" in finished.stdout


def test_a_wrong_import_is_found(tmp_path: Path) -> None:
    """The contract bites: a copy in which `store` imports `tasks` fails it."""
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    for package in PACKAGES:
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").touch()
    (tmp_path / "store" / "__init__.py").write_text("import tasks\n")
    command = [Path(sysconfig.get_path("scripts")) / "lint-imports", "--no-cache"]
    finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert finished.returncode == 1
    assert "store is not allowed to import tasks" in finished.stdout


@pytest.mark.parametrize(
    ("library", "files"), [("ray", "pipelines/ray_*.py"), ("prefect", "pipelines/flow*.py")]
)
def test_few_modules_know_the_library(library: str, files: str) -> None:
    found = importers(library)
    assert found
    assert [file for file in found if not fnmatch(file, files)] == []


def test_some_libraries_are_never_imported() -> None:
    for library in sorted(NEVER_IMPORTED):
        assert importers(library) == []


def test_files_are_named_for_what_they_hold() -> None:
    folders = [*PACKAGES, "tests", "benchmarks"]
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    assert files
    assert not [path for path in files if EMPTY_NAMES & set(path.stem.split("_"))]
