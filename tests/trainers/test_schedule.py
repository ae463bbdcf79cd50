import pytest

from sightline_trainers.schedule import Schedule, derived_seed, shuffled


def schedule(**changes):
    fields = {
        "n_rows": 23,
        "batch": 4,
        "epochs": 2,
        "max_steps": None,
        "seed": 5,
        "rank": 0,
        "n_processes": 1,
    }
    return Schedule(**{**fields, **changes})


def test_an_epoch_takes_each_row_once_and_leaves_out_what_makes_no_whole_step():
    whole = schedule()
    assert (whole.steps_per_epoch, whole.n_steps) == (5, 10)
    for epoch in (0, 1):
        steps = range(5 * epoch, 5 * epoch + 5)
        rows = [whole.row(place) for step in steps for place in whole.places(step)]
        assert len(set(rows)) == 20
    first, second = ([whole.row(p) for p in whole.places(step)] for step in (0, 5))
    assert first != second


def test_two_processes_share_the_places_of_one():
    one = schedule(batch=4)
    two = [schedule(batch=2, rank=rank, n_processes=2) for rank in (0, 1)]
    for step in range(one.n_steps):
        shared = [place for each in two for place in each.places(step)]
        assert shared == list(one.places(step))
        assert [two[0].row(place) for place in shared] == [one.row(place) for place in shared]


def test_a_run_may_stop_early_but_never_be_empty():
    assert schedule(max_steps=3).n_steps == 3
    with pytest.raises(ValueError, match="23 rows are fewer than the 24"):
        schedule(batch=12, n_processes=2)


def test_orders_and_seeds_follow_from_their_parts():
    assert sorted(shuffled(9, 1, 2)) == list(range(9))
    assert shuffled(9, 1, 2) == shuffled(9, 1, 2) != shuffled(9, 2, 1)
    seeds = {derived_seed(seed, place) for seed in range(30) for place in range(30)}
    assert len(seeds) == 900
    assert all(0 <= seed < 2**63 for seed in seeds)
