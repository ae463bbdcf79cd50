"""`sightline demo` as the terminal sees it, with the contract's fake service."""

import json

import pytest

from sightline_eval import demo_command
from sightline_eval.demo_command import main


@pytest.fixture
def scripted(monkeypatch, demo):
    monkeypatch.setattr(demo_command, "_run", lambda options: demo)


@pytest.mark.parametrize("columns", ["40", "80", "200"])
def test_the_tables_fit_any_terminal(scripted, monkeypatch, tmp_path, capsys, columns):
    monkeypatch.setenv("COLUMNS", columns)
    assert main(["--out", str(tmp_path / "new" / "demo")]) == 0
    output = capsys.readouterr().out
    assert "Hard negatives" in output
    assert max(map(len, output.splitlines())) <= int(columns)


def test_the_results_hold_figures_with_intervals_and_their_models(scripted, tmp_path, demo):
    main(["--out", str(tmp_path)])
    results = json.loads((tmp_path / "results.json").read_text())
    pooled = results["figures"]["hard"]["token"]["pooled"]
    assert pooled == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert (results["scenes"], results["seed"], results["split"]) == (12, 5, "test")
    assert results["similarity"]["id"] == "fake"
    assert (tmp_path / "index.html").read_text().startswith("<!doctype html>")


def test_a_service_that_is_not_there_is_one_line(monkeypatch, tmp_path, capsys):
    def refuse(options):
        raise demo_command.ServiceStartError("the service ended with code 3; its log ends:\nboom")

    monkeypatch.setattr(demo_command, "_run", refuse)
    assert main(["--out", str(tmp_path)]) == 1
    assert "boom" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--count", "0"], ["--seed", "-1"]])
def test_impossible_options_are_refused(arguments, capsys):
    with pytest.raises(SystemExit):
        main(arguments)
    assert "give 1 or more" in capsys.readouterr().err
