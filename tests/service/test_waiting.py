from collections.abc import Hashable
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from sightline_service.waiting import BatchLimits, WaitingRoom


@dataclass(eq=False)
class Entry:
    name: str
    group: Hashable = "a"
    cost: int = 1
    since: float = 0.0
    limits: BatchLimits = BatchLimits(max_items=4, max_cost=100, max_wait_s=1.0)
    company_expected: bool = False


def room(*entries: Entry) -> WaitingRoom[Entry]:
    waiting: WaitingRoom[Entry] = WaitingRoom()
    for entry in entries:
        waiting.add(entry)
    return waiting


def names(batch: list[Entry]) -> str:
    return "".join(entry.name for entry in batch)


def test_a_batch_is_cut_by_count():
    waiting = room(*(Entry(name) for name in "abcdef"))
    assert names(waiting.cut(0.0)) == "abcd"
    assert names(waiting.cut(0.0)) == "ef"
    assert waiting.cut(0.0) == []


def test_a_batch_is_cut_by_the_cost_of_its_padded_rectangle():
    waiting = room(Entry("a", cost=10), Entry("b", cost=40), Entry("c", cost=10))
    assert names(waiting.cut(0.0)) == "ab"  # 3 items of up to 40 would cost 120
    assert names(waiting.cut(0.0)) == "c"


def test_an_entry_beyond_the_cost_of_a_batch_runs_alone():
    waiting = room(Entry("a", cost=1000), Entry("b"))
    assert names(waiting.cut(0.0)) == "a"
    assert names(waiting.cut(0.0)) == "b"


def test_groups_never_share_a_batch_and_the_oldest_goes_first():
    waiting = room(
        Entry("x", group="late", since=2.0),
        Entry("a", group="early", since=1.0),
        Entry("y", group="late", since=3.0),
        Entry("b", group="early", since=4.0),
    )
    assert names(waiting.cut(5.0)) == "ab"
    assert names(waiting.cut(5.0)) == "xy"


def test_a_busy_group_does_not_starve_a_lone_entry():
    waiting = room(*(Entry("r", group="busy") for _ in range(4)))
    waiting.add(Entry("x", group="lone", since=0.5))
    order = []
    for step in range(1, 4):
        order.append(names(waiting.cut(9.0)))
        for _ in range(4):
            waiting.add(Entry("r", group="busy", since=float(step)))
    assert order == ["rrrr", "x", "rrrr"]


def test_a_batch_waits_for_company_until_its_first_entry_has_waited_enough():
    waiting = room(Entry("a", since=0.0, company_expected=True))
    assert waiting.cut(0.9) == []
    assert waiting.next_deadline() == 1.0
    assert names(waiting.cut(1.0)) == "a"


def test_a_full_batch_waits_for_nobody():
    waiting = room(*(Entry(name, company_expected=True) for name in "abcd"))
    assert names(waiting.cut(0.0)) == "abcd"


def test_a_batch_that_the_next_entry_would_overfill_waits_for_nobody():
    waiting = room(*(Entry(name, cost=60, company_expected=True) for name in "ab"))
    assert names(waiting.cut(0.0)) == "a"


def test_nothing_is_waited_for_when_no_company_is_expected():
    assert names(room(Entry("a")).cut(0.0)) == "a"


def test_a_full_group_goes_before_an_older_one_that_may_still_wait():
    waiting = room(Entry("x", group="older", since=0.0, company_expected=True))
    for name in "abcd":
        waiting.add(Entry(name, since=0.1, company_expected=True))
    assert names(waiting.cut(0.2)) == "abcd"
    assert waiting.cut(0.2) == []
    assert names(waiting.cut(1.0)) == "x"


def test_a_discarded_entry_is_in_no_batch():
    gone = Entry("b")
    waiting = room(Entry("a"), gone, Entry("c"))
    waiting.discard(gone)
    waiting.discard(gone)
    assert len(waiting) == 2
    assert names(waiting.cut(0.0)) == "ac"
    waiting.discard(gone)


def test_flushing_waits_for_nobody():
    assert names(room(Entry("a", company_expected=True)).cut(0.0, flush=True)) == "a"


def test_emptying_takes_everybody():
    waiting = room(Entry("a"), Entry("b", group="other"))
    assert names(waiting.empty()) == "ab"
    assert len(waiting) == 0
    assert waiting.next_deadline() is None


def head(entries: list[Entry]) -> list[Entry]:
    """The slow way to tell which first entries fit into one batch."""
    limits = entries[0].limits
    fits = [
        length
        for length in range(1, min(len(entries), limits.max_items) + 1)
        if length == 1 or length * max(e.cost for e in entries[:length]) <= limits.max_cost
    ]
    return entries[: max(fits)]


@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("add"), st.integers(1, 60)),
            st.tuples(st.just("discard"), st.integers(0, 12)),
            st.tuples(st.just("cut"), st.just(0)),
        ),
        max_size=40,
    )
)
def test_a_batch_is_due_exactly_when_counting_anew_says_that_it_is_full(steps):
    waiting, queue = room(), []
    for step, number in steps:
        if step == "add":
            queue.append(Entry("e", cost=number, company_expected=True))
            waiting.add(queue[-1])
        elif step == "discard" and number < len(queue):
            waiting.discard(queue.pop(number))
        full = bool(queue) and (len(head(queue)) < len(queue) or len(head(queue)) == 4)
        assert waiting.is_due(0.0) == full
        assert len(waiting) == len(queue)
        if step == "cut":
            want = head(queue) if full else []
            assert waiting.cut(0.0) == want
            del queue[: len(want)]
