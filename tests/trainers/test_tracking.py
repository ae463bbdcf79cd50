import json
import sys
import types

import pytest

from sightline_trainers.tracking import Tracker, versions


def test_resuming_drops_later_steps_and_a_line_that_was_cut_short(tmp_path):
    with Tracker(tmp_path, total=4) as tracker:
        for step in (1, 2, 3):
            tracker.log(step, {"reward": step / 2})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "rew')
    with Tracker(tmp_path, total=4) as tracker:
        tracker.resume(2)
        tracker.log(3, {"reward": 9.0})
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == [
        {"step": 1, "reward": 0.5},
        {"step": 2, "reward": 1.0},
        {"step": 3, "reward": 9.0},
    ]


def test_a_number_that_is_not_finite_is_written_as_null(tmp_path):
    with Tracker(tmp_path, total=1) as tracker:
        tracker.log(1, {"reward": float("nan"), "kl": 1.0})
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {
        "step": 1,
        "reward": None,
        "kl": 1.0,
    }


def test_other_processes_write_and_say_nothing(tmp_path, capfd):
    with Tracker(tmp_path, total=1, leads=False) as tracker:
        tracker.log(1, {"reward": 1.0})
        tracker.say("hello")
        tracker.write_manifest({})
    assert not list(tmp_path.iterdir())
    assert capfd.readouterr().err == ""


def test_messages_are_shown_as_they_are(tmp_path, capfd):
    with Tracker(tmp_path, total=1) as tracker:
        tracker.say("the service [red] is away")
    assert "the service [red] is away" in capfd.readouterr().err


def test_a_missing_reporter_is_named_with_its_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ValueError, match="pip install wandb"):
        Tracker(tmp_path, total=1, report_to=("wandb",))


def test_the_manifest_names_versions_and_the_given_facts(tmp_path):
    with Tracker(tmp_path, total=1) as tracker:
        tracker.write_manifest({"seed": 7})
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["seed"] == 7
    assert manifest["versions"] == versions()
    assert "torch" in manifest["versions"]


def test_a_resumed_run_is_one_run_at_weights_and_biases(tmp_path, monkeypatch):
    began, logged = [], []

    def init(**options):
        began.append(options["id"])
        log = lambda metrics, *, step: logged.append((step, metrics))  # noqa: E731 - as theirs
        return types.SimpleNamespace(log=log, finish=lambda: logged.append("finished"))

    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=init))
    for steps in ((1, 2), (2, 3), (1,)):
        with Tracker(tmp_path, total=3, report_to=("wandb",)) as tracker:
            for step in steps:
                tracker.log(step, {"loss": step / 2})
    again = [(2, {"loss": 1.0}), (3, {"loss": 1.5}), "finished", (1, {"loss": 0.5}), "finished"]
    assert logged == [(1, {"loss": 0.5}), (2, {"loss": 1.0}), "finished", *again]
    assert began[0] == began[1] != began[2]


def test_tensorboard_shows_each_step_of_a_resumed_run_once(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for steps in ((1, 2, 3), (3, 4)):
        with Tracker(tmp_path, total=4, report_to=("tensorboard",)) as tracker:
            for step in steps:
                tracker.log(step, {"loss": float(step + len(steps))})
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    shown = [(each.step, each.value) for each in events.Scalars("loss")]
    assert shown == [(1, 4.0), (2, 5.0), (3, 5.0), (4, 6.0)]
