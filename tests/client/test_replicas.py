import pytest

from sightline.replicas import BREAK_S, Replicas

A, B, C = "http://a", "http://b", "http://c"


def test_services_are_asked_in_turn():
    replicas = Replicas([A, B, C])
    assert [replicas.pick(0.0) for _ in range(5)] == [A, B, C, A, B]


def test_a_failed_service_is_left_out_until_its_rest_is_over():
    replicas = Replicas([A, B])
    assert replicas.rest(A, 0.0, BREAK_S) is True
    assert [replicas.pick(1.0) for _ in range(3)] == [B, B, B]
    assert {replicas.pick(BREAK_S) for _ in range(2)} == {A, B}


def test_where_all_rest_the_one_that_wakes_first_is_asked():
    replicas = Replicas([A, B, C])
    for url, seconds in ((A, 5.0), (B, 2.0), (C, 9.0)):
        awake = replicas.rest(url, 0.0, seconds)
    assert awake is False
    assert replicas.pick(1.0) == B


def test_a_service_that_answers_is_back_in_turn():
    replicas = Replicas([A, B])
    replicas.rest(A, 0.0, BREAK_S)
    replicas.recovered(A)
    assert {replicas.pick(0.0) for _ in range(2)} == {A, B}


@pytest.mark.parametrize("now", [0.0, 3.0])
def test_a_single_service_is_asked_even_while_it_rests(now):
    replicas = Replicas([A])
    assert replicas.rest(A, 0.0, BREAK_S) is False
    assert replicas.pick(now) == A
