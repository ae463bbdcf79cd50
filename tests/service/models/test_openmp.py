"""Teams of threads that rest do not hold up those that work."""

import os
import threading
from pathlib import Path

import pytest
import torch

from sightline_service.models.openmp import release_team, shorten_spinning


def threads_of_process() -> int:
    return len([*Path("/proc/self/task").iterdir()])


def test_a_released_team_ends_and_the_next_operation_computes_the_same():
    left = torch.randn(512, 512, generator=torch.Generator().manual_seed(0))
    found: list[tuple[int, int, bool]] = []

    def work() -> None:
        before = threads_of_process()
        first = left @ left
        release_team()
        found.append((before, threads_of_process(), torch.equal(first, left @ left)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    [(before, after, is_same)] = found
    assert after <= before
    assert is_same


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
