"""From times to verdicts, by hand-computed cases."""

import pytest

from sightline_bench.client import Taken
from sightline_bench.dialect import DIALECTS
from sightline_bench.load import LOADS
from sightline_bench.plan import CASES, CLAIMS, FULL, MORE_CASES, Claim
from sightline_bench.report import Results, markdown, write
from sightline_bench.summary import Window, judge, of_taken, percentile


def claim(**changes):
    return Claim("ours", "case", "a", "b", **{"bound": 2.0, **changes})


@pytest.mark.parametrize(("share", "expected"), [(0.5, 2), (0.51, 3), (0.99, 4), (0.25, 1)])
def test_a_percentile_is_a_value_that_was_seen(share, expected):
    assert percentile([1, 2, 3, 4], share) == expected


def test_a_rate_sums_the_whole_cycles_of_the_connections():
    taken = Taken(
        [0.1, 0.3], [False, True], units=[10, 30], spans=[2.0, 3.0], failures=[], asked=50
    )
    window = of_taken([taken], texts=20, forwards=80.0)
    assert window.rate == pytest.approx((5 + 10) * 20)
    assert (window.p50, window.p99, window.p50_short) == (0.1, 0.3, 0.1)
    assert window.forwards == 1.6  # the warm-up asked for forwards, too


def test_ratios_are_taken_repeat_by_repeat():
    windows = {
        "a": [Window(10.0), Window(30.0), Window(80.0)],
        "b": [Window(5.0), Window(10.0), Window(20.0)],
    }
    verdict = judge(claim(), windows)
    assert (verdict.ratio, verdict.least, verdict.greatest) == (3.0, 2.0, 4.0)
    assert verdict.reached
    assert not judge(claim(bound=3.1), windows).reached
    assert judge(claim(bound=3.0, at_most=True), windows).reached


def test_a_latency_may_have_an_allowance():
    windows = {"a": [Window(1.0, p50=0.014)], "b": [Window(1.0, p50=0.010)]}
    verdict = judge(claim(quantity="p50", at_most=True, bound=1.1, plus=0.003), windows)
    assert verdict.ratio == pytest.approx(1.1)


def test_what_was_not_run_is_unmeasured():
    verdict = judge(claim(), {"a": [Window(1.0)]})
    assert verdict.reached is None
    results = Results()
    results.add(CASES[0].name, "sightline", Window(12.5, p50=0.25))
    text = markdown(results)
    assert "| sightline | 12.5 | 250.0 |" in text
    assert text.count("unmeasured") == len(CLAIMS)


def test_every_claim_is_about_contenders_that_run():
    cases = {case.name: {each.name for each in case.contenders} for case in CASES}
    assert len(cases) == len(CASES)
    for each in CLAIMS:
        assert {each.of, each.against} <= cases[each.case], each


def test_every_contender_speaks_a_known_dialect_on_a_known_load():
    kinds = {
        "forward",
        "floor",
        "texts",
        "one",
        "perplexity",
        "perplexity floor",
        "reward function",
    }
    for case in (*CASES, *MORE_CASES):
        for each in case.contenders:
            assert each.dialect in (kinds if each.server == "limit" else DIALECTS)
            assert (each.load or case.load) in LOADS


def test_a_run_of_some_cases_keeps_the_others(tmp_path):
    results = Results()
    results.add("old", "sightline", Window(12.5, p50=0.25, failures=("HTTP/1.1 500",)))
    results.add("new", "sightline", Window(1.0, hit_rate=0.5))
    write(results, FULL, tmp_path)
    kept = Results.read(tmp_path).without(["new"])
    assert kept.windows == {"old": results.windows["old"]}
    assert Results.read(tmp_path / "nowhere").windows == {}
