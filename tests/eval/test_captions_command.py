"""`sightline captions` on files."""

import json

import pytest

from sightline_eval.captions_command import main


@pytest.fixture
def arguments(tmp_path):
    references = {
        "images": [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "b.png"}],
        "annotations": [
            {"image_id": 1, "caption": "A dog runs on the beach."},
            {"image_id": 2, "caption": "Two cats sleep on a red sofa."},
        ],
    }
    captions = [
        {"image": "a.png", "caption": "A dog runs on the beach."},
        {"image_id": 2, "caption": "Birds fly."},
    ]
    (tmp_path / "references.json").write_text(json.dumps(references))
    (tmp_path / "captions.jsonl").write_text("\n".join(map(json.dumps, captions)))
    return [
        f"--captions={tmp_path / 'captions.jsonl'}",
        f"--references={tmp_path / 'references.json'}",
    ]


def test_one_perfect_and_one_unrelated_caption(arguments, capsys):
    assert main([*arguments, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["n_captions"] == 2
    assert printed["rouge_l"]["value"] == 0.5
    assert printed["cider"]["value"] == pytest.approx(5.0)
    assert printed["words"]["value"] == 4.0


def test_a_log_of_lmms_eval_holds_both(tmp_path, capsys):
    answer = {"answer": ["the left dog"], "pred": "the left dog"}
    rows = [
        {"doc_id": 0, "filtered_resps": ["the left dog"], "refcoco_CIDEr": answer},
        {"doc_id": 1, "filtered_resps": ["a cat"], "refcoco_CIDEr": {**answer, "pred": "a cat"}},
    ]
    log = tmp_path / "20260101_000000_samples_refcoco.jsonl"
    log.write_text("\n".join(map(json.dumps, rows)))
    assert main([f"--samples={log}", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rouge_l"]["value"] == 0.5


def test_the_table_is_for_people(arguments, capsys):
    assert main(arguments) == 0
    assert "CIDEr" in capsys.readouterr().out


@pytest.mark.parametrize("given", [[], ["--captions=a"], ["--captions=a", "--samples=b"]])
def test_wrong_usage_is_refused(given, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(given)
    assert "give --captions with --references, or --samples" in capsys.readouterr().err


def test_a_missing_file_is_one_line(capsys):
    assert main(["--captions=/nowhere", "--references=/nowhere"]) == 1
    assert "sightline captions:" in capsys.readouterr().err
