"""lmms-eval's sample logs: rows as its evaluator and its tracker write them."""

import json
from pathlib import Path

import pytest

from sightline_eval.caption_metrics import score_captions
from sightline_eval.captions import Caption
from sightline_eval.lmms_eval_samples import (
    captions_with_references,
    load_samples,
    pope_answers,
    split_of,
    task_of,
)
from sightline_eval.pope import score_pope

HASHES = {"doc_hash": "d", "prompt_hash": "p", "target_hash": "t"}


def pope_row(doc_id, response, truth):
    metric = {
        "question_id": str(doc_id + 1),
        "score": float(response.lower() == truth),
        "prediction": response.lower().strip(),
        "ground_truth": truth,
    }
    return {
        "doc_id": doc_id,
        "input": "Is there a dog in the image?\nAnswer the question using a single word or phrase.",
        "target": truth,
        "filtered_resps": [response],
        **HASHES,
        **{f"pope_{name}": metric for name in ("accuracy", "precision", "recall")},
    }


def caption_row(doc_id, response, references):
    metric = {"answer": references, "pred": response, "image_id": 9, "id": doc_id}
    return {
        "doc_id": doc_id,
        "target": str(references),
        "resps": [[response]],
        "filtered_resps": [response],
        **HASHES,
        "coco_Bleu_4": metric,
        "coco_CIDEr": metric,
    }


@pytest.fixture
def write(tmp_path):
    def write_rows(*rows, name="20251121_101500_samples_pope_adv.jsonl"):
        path = tmp_path / name
        path.write_text("\n".join(json.dumps(row) for row in rows))
        return path

    return write_rows


def test_a_file_name_gives_task_and_split():
    assert task_of(Path("x/20251121_101500_samples_coco2017_cap_val.jsonl")) == "coco2017_cap_val"
    splits = [split_of(Path(f"1_samples_{task}.jsonl")) for task in ("pope_random", "pope_pop")]
    assert splits == ["random", "popular"]
    with pytest.raises(ValueError, match="is of task pope: run pope_random, pope_pop, pope_adv"):
        split_of(Path("1_samples_pope.jsonl"))
    with pytest.raises(ValueError, match="is no DATE_samples_TASK.jsonl"):
        task_of(Path("results.jsonl"))


def test_a_pope_log_is_scored_as_the_harness_does(write):
    rows = [pope_row(2, "No", "no"), pope_row(0, "Yes", "yes"), pope_row(1, "Yes.", "yes")]
    questions, answers = pope_answers(load_samples(write(*rows)))
    assert answers == {1: "Yes", 2: "Yes.", 3: "No"}
    assert [question.is_yes for question in questions] == [True, True, False]
    scores = score_pope(questions, answers, mode="lmms-eval")
    assert scores.accuracy.value == pytest.approx(2 / 3)
    assert scores.recall.value == 1.0


def test_image_and_wording_come_from_the_document_where_it_is_logged(write):
    row = pope_row(0, "Yes", "yes")
    row["doc"] = {"question": "Is there a cup?", "answer": "yes", "image_source": "COCO_1"}
    (question,), _ = pope_answers(load_samples(write(row)))
    assert (question.image, question.text) == ("COCO_1", "Is there a cup?")


def test_a_caption_log_gives_captions_and_references(write):
    rows = [caption_row(1, "A dog.", ["A dog.", "Dog"]), caption_row(0, "A red kite.", ["A kite"])]
    captions, references = captions_with_references(load_samples(write(*rows)))
    assert captions == (Caption(0, "A red kite."), Caption(1, "A dog."))
    assert references == {0: ("A kite",), 1: ("A dog.", "Dog")}
    assert score_captions(captions, references, resamples=2).bleu[0].value == pytest.approx(4 / 5)


def test_regions_of_one_image_stay_apart(write):
    metric = {"answer": ["left dog"], "pred": "a dog", "ann_id": "5"}
    rows = [{"doc_id": n, "filtered_resps": ["a dog"], "refcoco_CIDEr": metric} for n in range(2)]
    captions, _ = captions_with_references(load_samples(write(*rows)))
    assert [caption.image for caption in captions] == [0, 1]


def test_a_response_is_found_in_older_rows(write):
    (sample,) = load_samples(write({"doc_id": 4, "resps": [["Yes"]]}))
    assert (sample.doc_id, sample.response) == (4, "Yes")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"filtered_resps": ["a"]}, ":1 has no doc_id"),
        ({"doc_id": 0, "filtered_resps": ["a", "b"]}, r":1: filtered_resps is \['a', 'b'\]"),
        ({"doc_id": 0}, ":1: filtered_resps is None"),
    ],
)
def test_a_row_that_is_no_sample_is_named(write, row, message):
    with pytest.raises(ValueError, match=message):
        load_samples(write(row))


def test_a_log_of_another_kind_is_refused(write):
    path = write({"doc_id": 0, "filtered_resps": ["a"]})
    with pytest.raises(ValueError, match=":1 has no question_id and ground_truth"):
        pope_answers(load_samples(path))
    with pytest.raises(ValueError, match=":1 has no references"):
        captions_with_references(load_samples(path))


def test_two_runs_or_splits_in_one_file_are_refused(write):
    with pytest.raises(ValueError, match=":2: doc_id 0 occurs twice"):
        load_samples(write(pope_row(0, "Yes", "yes"), pope_row(0, "No", "yes")))
    named = pope_row(0, "Yes", "yes")
    named["pope_accuracy"]["question_id"] = "q1"
    with pytest.raises(ValueError, match=":1: question_id is 'q1'"):
        pope_answers(load_samples(write(named)))
    second_split = pope_row(0, "Yes", "yes") | {"doc_id": 3000}
    with pytest.raises(ValueError, match=":2: question_id 1 occurs twice: give one split"):
        pope_answers(load_samples(write(pope_row(0, "Yes", "yes"), second_split)))


def test_what_is_no_json_is_refused(write, tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text("{")
    with pytest.raises(ValueError, match="x.jsonl:1 is not JSON"):
        load_samples(path)
    with pytest.raises(ValueError, match="is empty"):
        load_samples(write())
