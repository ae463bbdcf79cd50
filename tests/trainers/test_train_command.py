import sys
import types
from dataclasses import dataclass

import pytest
import torch
from safetensors import SafetensorError

from sightline import errors
from sightline_trainers import train_command
from sightline_trainers.rewards import RewardOutageError
from sightline_trainers.runs import DivergedError


@dataclass(frozen=True, kw_only=True)
class Config:
    steps: int = 1


@pytest.fixture
def failing(monkeypatch):
    """The command with one method, which fails as told."""

    def run(error):
        def train(config, *, resume):
            assert config == Config(steps=2)
            assert resume
            raise error

        method = types.SimpleNamespace(Config=Config, train=train)
        monkeypatch.setitem(sys.modules, "a_method", method)
        monkeypatch.setattr(train_command, "METHODS", {"fails": "a_method"})
        return train_command.main(["fails", "--resume", "--steps", "2"])

    return run


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("clip is 0:\n give more"), "clip is 0: give more"),
        (FileNotFoundError(2, "No such file", "a.json"), "[Errno 2] No such file: 'a.json'"),
        (ModuleNotFoundError("No module named 'x'"), "No module named 'x'"),
        (errors.UnreachableError("http://a cannot be reached"), "http://a cannot be reached"),
        (RewardOutageError("no rewards for 900 s"), "no rewards for 900 s"),
        (DivergedError("step 3: not finite"), "step 3: not finite"),
        (torch.OutOfMemoryError("tried 2 GiB"), "out of memory: lower the batch sizes"),
        (MemoryError(), "out of memory: lower the batch sizes"),
        (SafetensorError("header too large"), "a file of weights cannot be read"),
        (torch.distributed.DistNetworkError("reset by peer"), "the processes lost each other"),
        (TimeoutError(), "TimeoutError"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_a_user_can_mend_is_one_line(failing, capsys, error, said):
    assert failing(error) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"sightline train: {said}")


def test_a_fault_of_ours_keeps_its_traceback(failing):
    with pytest.raises(ZeroDivisionError):
        failing(ZeroDivisionError())


def test_an_interrupted_run_says_how_to_go_on(failing, capsys):
    assert failing(KeyboardInterrupt()) == 130
    assert "--resume" in capsys.readouterr().err
