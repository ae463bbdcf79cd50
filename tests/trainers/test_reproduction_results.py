"""Results of reproductions: on disk, merged over seeds, held against their targets, drawn."""

import json
import re
from dataclasses import replace

import pytest

from sightline_eval.bootstrap import Estimate
from sightline_eval.lexicon import load_lexicon
from sightline_trainers.reproduction.cards import mark_caption
from sightline_trainers.reproduction.charts import Curve, draw_curves, draw_intervals, nice_ticks
from sightline_trainers.reproduction.columns import Column
from sightline_trainers.reproduction.papers import PRINTED, REMARKS
from sightline_trainers.reproduction.plan import PLANS
from sightline_trainers.reproduction.results import (
    Measured,
    Results,
    Row,
    read_results,
    write_results,
)
from sightline_trainers.reproduction.summary import summarise, summarise_all
from sightline_trainers.reproduction.targets import TARGETS, judge
from sightline_trainers.reproduction.training import Cost

CHEAP = Cost(600.0, 12.0)
GOOD = {
    "chair_s": 0.30,
    "chair_i": 0.10,
    "recall": 0.68,
    "objects": 3.0,
    "words": 30.0,
    "cider": 3.0,
    "pope_f1": 0.95,
    "pope_recall": 0.94,
    "pope_accuracy": 0.95,
}


def row(name: str, cost: Cost | None = CHEAP, **values: float) -> Row:
    figures = {
        figure: Estimate(value, value - 0.01, value + 0.01)
        for figure, value in (GOOD | values).items()
    }
    change = {} if name == "base" else {"chair_s": Estimate(-0.1, -0.15, -0.05)}
    return Row(name, f"the {name}", {}, Measured(figures, change), Measured(figures, change), cost)


def results(method: str, *rows: Row, seed: int = 0) -> Results:
    return Results(
        method=method,
        seed=seed,
        split="test",
        scenes=300,
        policy={"model": "world", "weights": "0123"},
        recipe={"file": f"world_{method}.yaml", "content": {}, "fields": {"beta": "0.2"}},
        rows=rows,
        seconds=600.0,
        reward_seconds=12.0,
        versions={"python": "3.11"},
    )


def outcomes(*found: Results) -> list[str]:
    return [verdict.outcome for verdict in judge(found)]


def test_results_survive_the_disk(tmp_path):
    base = row("base", None, chair_s=0.46)
    nothing = Estimate(None, None, None)
    bare = Row("isvp", "iSVP", {"a": "b"}, Measured({"chair_s": nothing}), None, Cost(1.0, 0.5))
    found = results("fisao", base, row("fisao"), bare)
    write_results(tmp_path / "results.json", found)
    assert read_results(tmp_path / "results.json") == found


def test_a_row_of_the_file_holds_its_figures_themselves(tmp_path):
    write_results(tmp_path / "results.json", results("fisao", row("base", None), row("fisao")))
    content = json.loads((tmp_path / "results.json").read_text())
    last = content["rows"][1]
    assert (last["name"], last["chair_s"], last["pope_f1"]) == ("fisao", 0.30, 0.95)
    assert last["interval"]["chair_s"] == pytest.approx([0.29, 0.31])
    assert last["change"]["chair_s"] == {"value": -0.1, "low": -0.15, "high": -0.05}
    assert last["sampled"]["recall"] == 0.68
    assert (last["seconds"], last["reward_seconds"], last["reward_share"]) == (600.0, 12.0, 0.02)
    assert content["seconds"] == 600.0


@pytest.mark.parametrize("text", ["{", "[]", '{"rows": [{}]}', '{"rows": [], "method": "x"}'])
def test_another_file_is_refused_by_name(tmp_path, text):
    path = tmp_path / "results.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=re.escape(f"{path} is no result")):
        read_results(path)


def test_fisao_s_targets_follow_from_its_figures():
    base = row("base", None, chair_s=0.46, recall=0.69)
    sweep = [row(f"margin-{m}", chair_s=c) for m, c in ((0, 0.4), (5, 0.3), (20, 0.45))]
    coarse = [row(level, chair_s=0.44) for level in ("sentence", "response")]
    good = results("fisao", base, row("fisao"), *coarse, *sweep)
    assert outcomes(good) == ["pass"] * 8
    seen = {verdict.text: verdict.seen for verdict in judge([good])}
    assert seen["CHAIR_s at least 27 % lower than the base's"] == "46.0% to 30.0%, 35% lower"
    assert seen["recall at most 2 points lower"] == "69.0% to 68.0%, -1.0 points"
    bad = results(
        "fisao",
        base,
        row("fisao", Cost(1300.0, 130.0), chair_s=0.35, recall=0.65, words=24.0),
        row("sentence", chair_s=0.40),
        row("response", chair_s=0.40),
        row("margin-0", chair_s=0.3),
        *sweep[1:],
    )
    assert outcomes(bad) == ["miss"] * 8


def test_what_was_not_run_is_not_measured():
    found = outcomes(results("fisao", row("base", None), row("fisao", chair_s=0.2)))
    assert found == ["pass"] * 3 + ["not measured"] * 3 + ["pass"] * 2
    assert set(outcomes(results("csr", row("base", None)))) == {"not measured"}


def test_csr_has_to_fall_in_every_iteration():
    def run(*values: float, only: float = 0.25) -> Results:
        names = ("base", "csr-1", "csr-2", "csr")
        rows = [row(name, chair_s=value) for name, value in zip(names, values, strict=True)]
        return results("csr", *rows, row("only-rt", chair_s=only), row("only-ri", chair_s=0.3))

    assert outcomes(run(0.5, 0.4, 0.3, 0.2))[:3] == ["pass", "pass", "pass"]
    assert outcomes(run(0.5, 0.4, 0.4, 0.2))[:3] == ["miss", "pass", "pass"]
    assert outcomes(run(0.5, 0.4, 0.3, 0.22, only=0.2))[:3] == ["pass", "miss", "miss"]
    short = results("csr", row("base", None, chair_s=0.5), row("csr-1"), row("csr"))
    assert outcomes(short)[0] == "not measured"


def test_aspo_and_svp_are_held_against_their_baselines():
    def aspo(own: float, dpo: float) -> list[str]:
        rows = [row("dpo", chair_s=dpo), row("aspo", chair_s=own)]
        rows += [row("level-response", chair_s=0.4), row("level-token", chair_s=0.31)]
        return outcomes(results("aspo", row("base", None, chair_s=0.45), *rows))

    assert aspo(0.30, 0.45)[:3] == ["pass", "pass", "pass"]
    assert aspo(0.32, 0.46)[:3] == ["pass", "miss", "miss"]
    svp = [
        row("base", None, chair_s=0.30, recall=0.65, pope_recall=0.89, pope_f1=0.93),
        row("svp", cider=3.2),
        row("unscored", cider=3.1),
        row("ungrounded", cider=3.1),
    ]
    expected = ["pass", "miss", "pass", "pass", "miss", "pass", "pass"]
    assert outcomes(results("svp", *svp)) == expected


def test_seeds_are_judged_by_their_mean_and_counted_alone():
    base = row("base", None, chair_s=0.5)
    seeds = [
        results("fisao", base, row("fisao", chair_s=value), seed=seed)
        for seed, value in enumerate((0.30, 0.34, 0.40))
    ]
    verdict = judge(seeds)[0]
    assert (verdict.outcome, verdict.n_met, verdict.n_seeds) == ("pass", 2, 3)
    assert str(verdict).endswith("50.0% to 34.7%, 31% lower; 2 of 3 seeds alone")


def test_a_target_is_judged_on_the_seeds_that_have_its_rows():
    base = row("base", None, chair_s=0.5)
    alone = (row("only-rt", chair_s=0.22), row("only-ri", chair_s=0.25))
    whole = results("csr", base, row("csr", chair_s=0.20), *alone, seed=0)
    verdict = judge([whole, results("csr", base, row("csr", chair_s=0.30), seed=1)])[2]
    assert (verdict.outcome, verdict.n_met, verdict.n_seeds) == ("pass", 1, 1)
    assert "csr 20.0%, only-rt 22.0%" in verdict.seen


def test_a_summary_gives_mean_and_extremes_beside_the_paper():
    base = row("base", None, chair_s=0.5)
    seeds = [
        results("fisao", base, row("fisao", chair_s=value), seed=seed)
        for seed, value in ((2, 0.30), (0, 0.40))
    ]
    text = summarise(seeds)
    assert "Seeds 0, 2; the first 300 scenes of the test split" in text
    assert "recipe world_fisao.yaml with beta 0.2" in text
    line = next(each for each in text.splitlines() if each.startswith("| the fisao |"))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[1] == "35.0 (30.0 to 40.0)"
    assert cells[4] == "3.00"
    assert cells[-3:-1] == ["10.0", "2.0"]
    assert cells[-1] == "CHAIR_S 39.9, CHAIR_I 9.9, POPE 85.7 (FiSAO, Table 2)"
    assert "- **pass** - CHAIR_s at least 27 % lower" in text
    widths = {each.count("|") for each in text.splitlines() if each.startswith("|")}
    assert len(widths) == 1


def test_methods_and_policies_have_summaries_of_their_own():
    base = row("base", None)
    plain = replace(results("csr", base), policy={"model": "plain", "weights": "9"})
    found = [results("csr", base), plain, results("svp", base), results("csr", base, seed=1)]
    text = summarise_all(found)
    assert re.findall(r"^### (.+)$", text, re.MULTILINE) == ["CSR", "CSR", "SVP"]
    assert "policy `plain` (weights 9)" in text
    assert "Seeds 0, 1" in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 0}, "give each seed once"),
        ({"scenes": 200}, "scenes 300, seed 1 200"),
        ({"policy": {"model": "other", "weights": "9"}}, "has policy"),
        ({"recipe": {"file": "f", "content": {"beta": 1}, "fields": {}}}, "has recipe"),
    ],
)
def test_only_seeds_of_one_experiment_are_merged(change, message):
    first = results("fisao", row("base", None))
    with pytest.raises(ValueError, match=message):
        summarise([first, replace(first, **{"seed": 1, **change})])


def test_every_paper_s_row_is_a_row_of_its_plan():
    assert PLANS.keys() == PRINTED.keys() == REMARKS.keys() == TARGETS.keys()
    for method, rows in PRINTED.items():
        names = {"base", "csr-1", "csr-2", *(each.name for each in PLANS[method].variants)}
        assert rows.keys() <= names


def test_numbers_are_written_in_their_unit():
    share, minutes = Column("recall", "recall %"), Column("seconds", "minutes", "min")
    assert share.number(0.6849) == "68.5"
    assert minutes.number(90.0) == "1.5"
    assert share.number(None) == "-"
    assert share.signed(Estimate(-0.02, -0.05, 0.01)) == "-2.0 [-5.0, +1.0]"
    assert share.spread([0.5]) == "50.0"
    assert share.spread([0.5, 0.5]) == "50.0"


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.0, 10.0, (0, 2, 4, 6, 8, 10)),
        (33.1, 47.9, (30, 35, 40, 45, 50)),
        (-0.4, 0.9, (-0.5, 0.0, 0.5, 1.0)),
        (3.0, 3.0, (3.0, 4.0)),
    ],
)
def test_ticks_are_round_and_enclose_the_values(low, high, ticks):
    assert nice_ticks(low, high) == pytest.approx(ticks)


def test_a_curve_runs_from_corner_to_corner_of_its_axes():
    drawn = draw_curves([Curve("a<b", "up", [(0, 0), (10, 10)])], across="x", up="y")
    assert 'd="M46.0 188.0L508.0 12.0"' in drawn
    assert "a&lt;b" in drawn
    assert "a<b" not in drawn
    assert "nothing to draw" in draw_curves([Curve("a", "up", [])], across="x", up="y")


def test_an_interval_is_drawn_around_its_value():
    drawn = draw_intervals([("base", "base", Estimate(5.0, 0.0, 10.0))], across="y")
    assert 'class="whisker base" x1="215.0" x2="508.0"' in drawn
    assert 'class="dot base" cx="361.5"' in drawn
    assert "nothing to draw" in draw_intervals([("a", "b", Estimate(None, None, None))], across="y")


def test_hallucinated_words_are_marked_and_text_is_escaped():
    marked = mark_caption("A dog & a <b>cat</b>.", frozenset({"dog"}), load_lexicon("clean"))
    assert re.search(r'<mark class="up"[^>]*>dog</mark>', marked)
    assert re.search(r'<mark class="down wrong"[^>]*>cat</mark>', marked)
    assert "&amp; a &lt;b&gt;" in marked
