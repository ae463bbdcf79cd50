"""The peers' own environments, made from hashed requirement files. Knows uv; runs no peer."""

import shutil
import subprocess
from pathlib import Path

REQUIREMENTS = Path(__file__).parents[1]
NAMES = ("infinity", "litserve")


def python_of(build: Path, name: str) -> Path:
    """Returns the interpreter of the environment called `name`."""
    return build / f"bench-{name}" / "bin" / "python"


def make_environment(build: Path, name: str) -> None:
    """Makes `build/bench-<name>` from `requirements-<name>.txt`, unless it is as the file says.

    Raises:
        FileNotFoundError: uv is not installed.
        subprocess.CalledProcessError: the packages cannot be installed.
    """
    folder = build / f"bench-{name}"
    wanted = REQUIREMENTS / f"requirements-{name}.txt"
    stamp = folder / "installed.txt"
    if stamp.exists() and stamp.read_bytes() == wanted.read_bytes():
        return
    uv = shutil.which("uv") or str(REQUIREMENTS.parent / ".venv-tools" / "bin" / "uv")
    python = str(python_of(build, name))
    subprocess.run([uv, "venv", "-q", "--clear", "--python", "3.11", str(folder)], check=True)
    options = ["--require-hashes", "--compile-bytecode", "--python", python]
    subprocess.run([uv, "pip", "sync", "-q", *options, str(wanted)], check=True)
    stamp.write_bytes(wanted.read_bytes())
