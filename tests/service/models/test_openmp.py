"""Teams of threads that rest do not hold up those that work."""

import os
import subprocess
import sys

import pytest

from sightline_service.models.openmp import shorten_spinning

TEAM = """
import threading
from pathlib import Path

import torch

from sightline_service.models.openmp import release_team

seen = []
left = torch.randn(512, 512)


def look():
    seen.append(len([*Path("/proc/self/task").iterdir()]))


def work():
    look()
    first = left @ left
    look()
    release_team()
    look()
    assert torch.equal(first, left @ left)
    look()


thread = threading.Thread(target=work)
thread.start()
thread.join()
print(*(n - seen[0] for n in seen))
"""


def test_a_released_team_ends_and_the_next_operation_builds_another():
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    ran = subprocess.run(
        [sys.executable, "-c", TEAM], env=environment, capture_output=True, text=True, check=True
    )
    assert ran.stdout.split() == ["0", "1", "0", "1"]


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, "10000"),
        ({"GOMP_SPINCOUNT": "5"}, "5"),
        ({"OMP_WAIT_POLICY": "passive"}, None),
    ],
    ids=["unset", "set", "by policy"],
)
def test_spinning_is_shortened_unless_the_operator_says_otherwise(monkeypatch, given, found):
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.setenv(name, "")  # so that what the test sets is unset after it
        monkeypatch.delenv(name)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    shorten_spinning()
    assert os.environ.get("GOMP_SPINCOUNT") == found
