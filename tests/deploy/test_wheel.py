"""The wheel that the images install, built from what their Dockerfiles copy and nothing else."""

import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from rig import dockerfile

ROOT = Path(__file__).parents[2]
LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.pyc")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    context = tmp_path_factory.mktemp("context")
    _, [build, *_] = dockerfile.read(ROOT / "Dockerfile.reward")
    for name in build.copied():
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, context / name, ignore=LEFT_OUT)
        else:
            shutil.copy(ROOT / name, context / name)
    command = [
        sys.executable,
        "-m",
        "hatchling",
        "build",
        "-t",
        "wheel",
        "-d",
        str(context / "out"),
    ]
    subprocess.run(command, cwd=context, check=True, capture_output=True)
    [built] = (context / "out").glob("*.whl")
    with zipfile.ZipFile(built) as opened:
        yield opened


def test_it_holds_every_package_with_the_embedded_models(wheel):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    names = wheel.namelist()
    for package in project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]:
        assert f"{Path(package).name}/__init__.py" in names
    weights = [name for name in names if name.endswith(".safetensors")]
    assert len(weights) >= 3


def test_its_command_line_has_what_the_chart_runs(wheel):
    [entries] = [name for name in wheel.namelist() if name.endswith("entry_points.txt")]
    text = wheel.read(entries).decode()
    assert "sightline = sightline.cli:main" in text
    for command in ("serve", "train", "weights"):
        assert f"\n{command} = " in text
    assert "sightline_trainers/__main__.py" in wheel.namelist()
