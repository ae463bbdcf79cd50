"""Builds the images from Dockerfiles, locks and wheels, without a network. Knows podman and pip.

torch and what it brings (gigabytes) stay out of the images: the lock is theirs without those
lines, and containers mount them from this interpreter's own packages, where they would be.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path

ROOT = Path(__file__).parents[3]
TOOLS = ROOT / "build/deploy"
BASE = "localhost/sightline-base:bookworm"
PACKAGES = "lib/python3.11/site-packages"
BROUGHT = re.compile(r"^(torch|torchvision|triton|nvidia-|cuda-)")
EXTRAS = {"reward": "service", "trainer": "trainers"}


@dataclass(frozen=True)
class Lock:
    """A hashed lock without torch.

    Attributes:
        text: its lines.
        left_out: the distributions that are not in it any more.
    """

    text: str
    left_out: tuple[str, ...]


def without_torch(text: str) -> Lock:
    """Leaves torch and what it brings out of a lock."""
    pins = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)
    kept = "".join(pin for pin in pins if not BROUGHT.match(pin))
    return Lock(kept, tuple(name for name in names(text) if BROUGHT.match(name)))


def names(text: str) -> list[str]:
    """The distributions that a lock names."""
    return re.findall(r"^[A-Za-z0-9][A-Za-z0-9._-]*", text, flags=re.MULTILINE)


def lock(image: str) -> Lock:
    """What an image is built from here."""
    return without_torch((ROOT / f"requirements/{EXTRAS[image]}.txt").read_text())


def fetch_wheels() -> None:
    """Downloads what the locks name, by hash, as far as it is not there."""
    folder = TOOLS / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    locks = [ROOT / "requirements/deploy/build.txt"]
    for image in EXTRAS:
        locks.append(folder / f"{image}.txt")
        locks[-1].write_text(lock(image).text)
    for path in locks:
        run(
            [TOOLS / "pip/bin/python", "-m", "pip", "download", "--quiet", "--no-deps"]
            + ["--require-hashes", "--only-binary", ":all:", "--dest", TOOLS / "wheels"]
            + ["--requirement", path]
        )


def build(image: str) -> str:
    """Builds one image as its Dockerfile says; returns its name."""
    tag = f"localhost/sightline-{image}:test"
    run(
        ["podman", "build", "--quiet", "--format=docker", "--layers=false"]
        + ["--network=none", "--pull=never"]
        + [f"--build-arg=BASE_IMAGE={BASE}", f"--build-arg=LOCK=/ci/locks/{image}.txt"]
        + [f"--volume={TOOLS}/{part}:/ci/{part}:ro" for part in ("wheels", "locks")]
        + [f"--file=Dockerfile.{image}", f"--tag={tag}", "."]
    )
    return tag


def torch_mounts(image: str) -> Iterator[str]:
    """Options that bring into a container what its image lacks."""
    here = Path(str(distribution("torch").locate_file("")))
    found = [distribution(name).files or () for name in lock(image).left_out]
    for top in sorted({file.parts[0] for files in found for file in files} - {".."}):
        yield f"--volume={here / top}:/opt/sightline/{PACKAGES}/{top}:ro"


def run(command: list[str | Path], timeout_s: float = 1800) -> str:
    """What a program prints.

    Raises:
        AssertionError: it fails; with the last lines of what it said.
    """
    ended = subprocess.run(
        [str(word) for word in command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_s,
    )
    said = f"{' '.join(map(str, command[:3]))}: {ended.stdout[-2000:]}{ended.stderr[-4000:]}"
    assert ended.returncode == 0, said
    return ended.stdout


def why_not() -> str | None:
    """Why no image can be built here, or None."""
    if not (TOOLS / "bin/podman").exists():
        return "podman and debootstrap are missing, and only root installs them"
    if sys.version_info[:2] != (3, 11):
        return "the image's Python is 3.11, and brings torch from an environment of the same"
    return None
