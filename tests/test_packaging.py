"""The wheel, built and installed into an empty environment, imports completely from another folder."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("store", "extractors", "pave_model", "tasks", "pipelines")

# Modules that only the package of an extra imports, and that need it.
OF_EXTRAS = {"pipelines.lmms_model": "lmms_eval"}

# Imports every module of every package, and checks that each comes from the installed wheel.
IMPORT_ALL = f"""
import importlib, importlib.util, pkgutil, sys
of_extras = {OF_EXTRAS}
site_packages, packages = sys.argv[1], sys.argv[2:]
names = []
for package in packages:
    module = importlib.import_module(package)
    names += [package] + [found.name for found in pkgutil.walk_packages(module.__path__, package + ".")]
for name in names:
    if name in of_extras and importlib.util.find_spec(of_extras[name]) is None:
        continue
    module = importlib.import_module(name)
    assert module.__file__.startswith(site_packages + "/"), name + " came from " + module.__file__
print(*names)
"""


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command and return its stdout; fails with all that it printed."""
    # PYTHONPATH may name the checkout, and the wheel would count as installed.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    finished = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert finished.returncode == 0, f"{command}\n{finished.stdout}\n{finished.stderr}"
    return finished.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` folder of an empty environment with the wheel; its dependencies are those of this one."""
    work = tmp_path_factory.mktemp("wheel")
    # A copy, so that building leaves nothing in the checkout and finds no left-overs there.
    source = work / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for package in PACKAGES:
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", work, source, cwd=work)
    (wheel,) = work.glob("*.whl")

    environment = work / "environment"
    venv.create(environment, symlinks=True, with_pip=False)
    python = environment / "bin" / "python"
    run(
        *(sys.executable, "-m", "pip", "--python", python, "install"),
        *("--no-deps", "--no-index", "--disable-pip-version-check", wheel),
        cwd=work,
    )
    # A path in a .pth file only lends its packages: the .pth files there, such as that of an editable
    # installation of the checkout, are not read.
    (site_packages,) = environment.glob("lib/python*/site-packages")
    (site_packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return environment / "bin"


def test_every_module_comes_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    (site_packages,) = installed.parent.glob("lib/python*/site-packages")
    printed = run(installed / "python", "-c", IMPORT_ALL, site_packages, *PACKAGES, cwd=tmp_path)
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
    }
    assert set(printed.split()) == modules


def test_files_that_are_not_python_are_in_the_wheel(installed: Path) -> None:
    (site_packages,) = installed.parent.glob("lib/python*/site-packages")
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                assert (site_packages / path.relative_to(ROOT)).is_file(), path


def test_the_command_is_installed(installed: Path, tmp_path: Path) -> None:
    printed = run(installed / "pave", "--help", cwd=tmp_path)
    assert printed.startswith("Usage: pave ")
    assert "extract" in printed
