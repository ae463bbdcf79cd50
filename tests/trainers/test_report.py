"""The report of a run, made from folders as the four methods leave them."""

import json
import re

import numpy as np
import PIL.Image
import pytest

from sightline import Image, RewardClient
from sightline.testing import FakeService
from sightline_trainers import examples, seva
from sightline_trainers.candidates import Candidate, CandidateFiles
from sightline_trainers.checkpoint import Process
from sightline_trainers.configuration import plain
from sightline_trainers.curves import draw_metric, running_mean
from sightline_trainers.data import DataConfig
from sightline_trainers.journal import Journal
from sightline_trainers.policy import PolicyConfig
from sightline_trainers.report import render_report
from sightline_trainers.rewards import Response, RewardConfig, RewardSource
from sightline_trainers.train_command import main

HOSTILE = "A <script>dog</script> & a cat."


@pytest.fixture
def service():
    return FakeService(cosine=lambda image, text: {"dog": 0.08, "cat": 0.3}.get(text, 0.2))


@pytest.fixture
def run(tmp_path, service):
    """A finished run of three steps on two pictures, without examples."""
    for number in range(2):
        PIL.Image.new("RGB", (40, 30), (200, 40 * number, 0)).save(tmp_path / f"{number}.png")
    rows = [{"image": f"{number}.png", "prompt": f"What <{number}>?"} for number in range(2)]
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(f"{json.dumps(row)}\n" for row in rows))

    def make(method, *, resumed_from=None, summary=True, **config):
        folder = tmp_path / "run"
        folder.mkdir()
        with RewardClient("http://fake", transport=service) as client:
            served = client.info().model_dump(mode="json")
        manifest = {
            "written": "2026-01-02T03:04:05+00:00",
            "versions": {"sightline": "1.2.3", "torch": "9.9"},
            "method": method,
            "config": {
                "policy": plain(PolicyConfig()),
                "data": plain(DataConfig(path=data)),
                "seed": 7,
                **config,
            },
            "config_digest": "d",
            "seed": 7,
            "processes": 2,
            "device": "cpu",
            "service": served,
            "resumed_from": resumed_from,
            "n_rows": 2,
            "metrics": {"loss": "mean of <l>", "rare": "on some steps", "never": "not logged"},
        }
        (folder / "manifest.json").write_text(json.dumps(manifest))
        lines = [{"step": 1, "loss": 3.0, "search_s": 4.0}, {"step": 2, "loss": None, "rare": 5.0}]
        lines.append({"step": 3, "loss": 1.5, "search_s": 2.0})
        text = "".join(f"{json.dumps(line)}\n" for line in lines)
        (folder / "metrics.jsonl").write_text(text + '{"step": 4, "lo')
        if summary:
            content = {"seconds": 10.0, "reward_seconds": 0.5}
            (folder / "summary.json").write_text(json.dumps(content))
        return folder

    return make


def test_the_page_holds_everything_and_loads_nothing(run):
    page = render_report(run("fisao"))
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    assert "FiSAO: 3 steps on 2 images" in page
    assert "2 processes on cpu" in page
    assert "mean of &lt;l&gt;" in page
    assert "last 1.5" in page
    assert page.count("<svg class=metric") == 3  # loss, rare, search_s; never was not logged
    assert "torch 9.9" in page
    assert "fake" in page


def test_time_is_split_into_sampling_training_and_waiting(run):
    page = render_report(run("fisao"))
    tiles = dict(re.findall(r"<div class=tile><b>(.*?)</b>(.*?)</div>", page))
    assert tiles == {
        "10 s": "from beginning to end",
        "40.0 %": "training",
        "55.0 %": "sampling of pairs",
        "5.0 %": "waiting for rewards",
    }


def test_the_time_of_a_resumed_run_is_that_since_then(run):
    page = render_report(run("fisao", resumed_from=2))
    assert "<b>10 s</b>since step 2" in page
    assert "<b>15.0 %</b>sampling of pairs" in page


def test_a_run_that_was_stopped_has_a_report_too(run):
    page = render_report(run("fisao", summary=False))
    assert "<b>not finished</b>3 steps are done" in page


def test_rollouts_are_shown_with_their_rewarded_words(run, service):
    folder = run("fisao")
    response = Response("rows.jsonl:2", Image(b"any bytes"), HOSTILE, ((0, len(HOSTILE)),))
    client = RewardClient("http://fake", transport=service)
    with RewardSource(RewardConfig(), client=client) as source:
        grades = source.wait(source.ask_tokens([response]))
    earned = [span.reward for span in grades[0].spans]
    assert [span.text for span in grades[0].spans] == ["dog", "cat"]
    assert earned[0] < 0 < earned[1]
    for step in (1, 20, 40):
        examples.write_rollouts(folder, step, [1], [response], grades)
    page = render_report(folder)
    assert re.findall(r"<h2>Step (\d+): sampled", page) == ["1", "40"]
    assert "<script>" not in page
    assert re.search(r"&lt;script&gt;<mark class=\"down\"[^>]*>dog</mark>&lt;/script&gt;", page)
    assert re.search(r"<mark class=\"up\"[^>]*>cat</mark>", page)
    assert f"reward {sum(grades[0].values):+.2f} in all" in page
    assert page.count('<img src="data:image/jpeg;base64,') == 2
    assert "What &lt;1&gt;?" in page


def test_without_its_pictures_a_run_still_has_a_report(run, service, tmp_path):
    folder = run("fisao")
    response = Response("rows.jsonl:1", Image(b"any bytes"), "A dog.", ((0, 6),))
    client = RewardClient("http://fake", transport=service)
    with RewardSource(RewardConfig(), client=client) as source:
        grades = source.wait(source.ask_tokens([response]))
    examples.write_rollouts(folder, 1, [0], [response], grades)
    (tmp_path / "rows.jsonl").unlink()
    page = render_report(folder)
    assert "dog</mark>" in page
    assert "<img" not in page


def test_the_pairs_of_the_first_and_the_last_iteration_are_shown(run):
    folder = run("csr")
    for iteration in (1, 2, 10):
        side = {"ids": [1], "text": f"Chosen {iteration}.", "value": 0.75}
        other = {**side, "text": HOSTILE, "value": 0.25, "image": 21.0, "language": -0.5}
        record = {"row": 1, "origin": "rows.jsonl:2", "chosen": side, "rejected": other}
        journal = Journal(folder / f"iteration-{iteration}/pairs-0.jsonl")
        journal.append([{"row": 0, "dropped": "equal"}, {**record, "dropped": None}])
    page = render_report(folder)
    assert re.findall(r"Chosen (\d+)\.", page) == ["1", "10"]
    assert "chosen, value 0.75" in page
    assert "mean R_I 21.0, mean R_T -0.50" in page
    assert "<script>" not in page


def test_what_svp_chose_is_shown_with_draft_and_context(run):
    folder = run("svp")
    common = {"row": 0, "origin": "rows.jsonl:1", "prompt": "Describe.", "ids": (1,)}
    made = {"draft": "A draft.", "context": "dog [0.1, 0.2, 0.3, 0.4]", "finished": True, **common}
    chosen = Candidate(
        place=0, sample=1, text="Guided.", S=3.25, Delta=-1.5, outcome="chosen", **made
    )
    other = Candidate(place=1, sample=0, text="Outranked.", outcome="rank", **made)
    CandidateFiles(folder / "candidates", Process(0, 1)).write(0, 0, [chosen, other])
    page = render_report(folder)
    assert "Iteration 1: what was chosen, the first 1" in page
    assert page.index("A draft.") < page.index("dog [0.1") < page.index("Guided.")
    assert "S 3.2, Delta -1.5" in page
    assert "Outranked." not in page


def test_asposs_pairs_are_shown(run, tmp_path):
    pairs = seva.PairConfig()
    folder = run("aspo", pairs=plain(pairs))
    name = seva.digest(pairs, PolicyConfig(), DataConfig(path=tmp_path / "rows.jsonl"), seed=7)
    pair = seva.Pair(1, "rows.jsonl:2", "kept", "Clean.", "Noisy.", (1,), (2,), ((0, 6),), 1, 2, 3)
    seva.PairFolder(folder / "pairs" / name, 0).add([pair])
    page = render_report(folder)
    assert page.index("Clean.") < page.index("Noisy.")


def test_the_command_writes_the_report_anew(run, capsys, tmp_path):
    folder = run("fisao")
    assert main(["report", str(folder)]) == 0
    assert capsys.readouterr().out == f"report: {folder / 'report.html'}\n"
    assert (folder / "report.html").read_text() == render_report(folder)
    assert main(["report", str(tmp_path)]) == 1
    assert "holds no manifest.json" in capsys.readouterr().err


def test_a_metrics_line_goes_through_its_points():
    drawn = draw_metric("m", [(2, 0.0), (4, 10.0), (6, 5.0)])
    assert 'd="M48.0 108.0L180.0 8.0L312.0 58.0"' in drawn
    assert drawn.count("<circle") == 3
    assert 'aria-label="m: 0 to 10, last 5"' in drawn


def test_a_metric_that_stays_is_a_line_in_the_middle():
    assert 'd="M48.0 58.0L312.0 58.0"' in draw_metric("m", [(1, 2.0), (2, 2.0)])
    assert 'd="M48.0 58.0"' in draw_metric("m", [(1, 2.0)])


def test_many_points_are_drawn_with_their_running_mean():
    drawn = draw_metric("m", [(step, float(step % 2)) for step in range(1, 101)])
    assert drawn.count("<path") == 2
    assert "<circle" not in drawn
    np.testing.assert_allclose(running_mean(np.array([0.0, 3.0, 6.0, 0.0]), 3), [1.5, 3, 3, 3])


def test_examples_that_cannot_be_read_are_said_to_be_so(run):
    folder = run("fisao")
    (folder / "examples").mkdir()
    (folder / "examples/step-00000001.json").write_text("[{")
    assert "The examples cannot be read: " in render_report(folder)
