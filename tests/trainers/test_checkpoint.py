import random

import numpy as np
import pytest
import torch

from sightline_trainers.checkpoint import (
    Checkpoints,
    Process,
    random_states,
    restore_random_states,
    write_whole,
)


@pytest.fixture
def trained():
    torch.manual_seed(0)
    return {"a": torch.randn(3, 2, requires_grad=True), "b": torch.randn(4, requires_grad=True)}


def optimiser_of(trained):
    optimiser = torch.optim.AdamW(trained.values(), lr=0.1)
    sum((each**2).sum() for each in trained.values()).backward()
    optimiser.step()
    return optimiser


def checkpoints(folder, keep=2, n_processes=1):
    return Checkpoints(folder, Process(0, n_processes), lambda: None, keep=keep)


def draw():
    return random.random(), np.random.random(), np.random.normal(), torch.rand(1).item()


def test_all_generators_go_on_where_they_were():
    random.seed(1)
    np.random.seed(2)
    torch.manual_seed(3)
    draw()
    np.random.normal()  # leaves half a pair of normal numbers behind
    states = random_states()
    wanted = [draw() for _ in range(3)]
    draw()
    restore_random_states(states)
    assert [draw() for _ in range(3)] == wanted


def test_a_checkpoint_gives_back_tensors_optimiser_and_facts_bit_for_bit(tmp_path, trained):
    optimiser = optimiser_of(trained)
    saved = checkpoints(tmp_path)
    saved.save(7, trained, optimiser, {"method": "test"})
    other = {name: torch.zeros_like(each, requires_grad=True) for name, each in trained.items()}
    fresh = torch.optim.AdamW(other.values(), lr=0.1)
    tensors, facts = saved.load(7, fresh)
    assert all(torch.equal(tensors[name], trained[name]) for name in trained)
    assert facts["method"] == "test"
    for mine, theirs in zip(optimiser.state.values(), fresh.state.values(), strict=True):
        assert torch.equal(mine["exp_avg_sq"], theirs["exp_avg_sq"])


def test_a_checkpoint_that_was_cut_short_does_not_exist(tmp_path, trained, monkeypatch):
    saved = checkpoints(tmp_path)
    optimiser = optimiser_of(trained)
    saved.save(1, trained, optimiser, {})

    def die(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", die)
    with pytest.raises(KeyboardInterrupt):
        saved.save(2, trained, optimiser, {})
    monkeypatch.undo()
    assert saved.newest() == 1
    saved.save(2, trained, optimiser, {})
    assert saved.newest() == 2


def test_only_the_newest_stay(tmp_path, trained):
    saved = checkpoints(tmp_path, keep=2)
    for step in (1, 2, 10):
        saved.save(step, trained, optimiser_of(trained), {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000002", "step-00000010"]
    assert saved.newest() == 10


def test_another_number_of_processes_is_refused(tmp_path, trained):
    optimiser = optimiser_of(trained)
    checkpoints(tmp_path).save(1, trained, optimiser, {})
    with pytest.raises(ValueError, match="1 processes, this one has 2"):
        checkpoints(tmp_path, n_processes=2).load(1, optimiser)


def test_a_text_replaces_the_one_before_as_a_whole(tmp_path):
    path = tmp_path / "a.json"
    write_whole(path, "one")
    write_whole(path, "two")
    assert path.read_text() == "two"
    assert [each.name for each in tmp_path.iterdir()] == ["a.json"]
