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


ALONE = """
import threading
from pathlib import Path

import torch

from sightline_service.models.openmp import keep_to_thread

grown = []
left = torch.randn(512, 512)


def work(begin):
    begin()
    before = len([*Path("/proc/self/task").iterdir()])
    left.mul(2)
    grown.append(len([*Path("/proc/self/task").iterdir()]) - before)


for begin in (keep_to_thread, lambda: None):
    thread = threading.Thread(target=work, args=(begin,))
    thread.start()
    thread.join()
print(*grown)
"""


def run_with_two_threads(script: str) -> list[str]:
    ran = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        check=True,
    )
    return ran.stdout.split()


def test_a_thread_that_keeps_to_itself_has_no_team_and_the_others_have():
    assert run_with_two_threads(ALONE) == ["0", "1"]


def test_a_released_team_ends_and_the_next_operation_builds_another():
    assert run_with_two_threads(TEAM) == ["0", "1", "0", "1"]


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
