"""The whole demonstration with the shipped models: service, captioner, page."""

import json

import pytest

from sightline_eval.demo_command import main


@pytest.mark.slow
def test_the_demo_runs_on_the_shipped_models(tmp_path, capsys):
    assert main(["--count", "8", "--seed", "11", "--out", str(tmp_path)]) == 0
    assert "Hard negatives" in capsys.readouterr().out
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["scenes"] == 8
    assert results["similarity"]["id"] == results["detector"]["id"] == "world"
    figures = results["figures"]
    assert figures["hard"]["token"]["pooled"]["value"] > 0.8
    assert figures["boxes"]["recall"]["value"] > 0.5
    assert figures["chair"]["greedy"]["recall"]["value"] > 0.4
    assert (tmp_path / "index.html").read_text().count("<article") == 8
