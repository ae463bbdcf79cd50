"""Each reason to drop a candidate with a case, top-k, the files, the questions and the prompts."""

from dataclasses import replace
from pathlib import Path

import pytest

from sightline_core.entities import load_vocabulary
from sightline_core.grounding import phrases_in
from sightline_proto import Detection
from sightline_trainers import svp, svp_prompts
from sightline_trainers.candidates import (
    Candidate,
    CandidateFiles,
    answered,
    repeats,
    tallies,
    top_k,
)
from sightline_trainers.checkpoint import Process
from sightline_trainers.configuration import read_config
from sightline_trainers.data import DataConfig
from sightline_trainers.grounding import GroundingConfig
from sightline_trainers.projection import ProjectionConfig
from sightline_trainers.queries import object_questions
from sightline_trainers.svp import Config, _answer
from sightline_trainers.train_command import main
from sightline_world.captions import question

RECIPES = Path(svp.__file__).parent / "recipes"
GOOD = "In the image, a brown dog runs after a red ball on the wet grass."


def candidate(sample=0, **changes):
    fields = {
        "place": 3,
        "sample": sample,
        "row": 1,
        "origin": "file:1",
        "prompt": "Describe.",
        "draft": "A dog.",
        "context": "dog [0.10, 0.20, 0.30, 0.40]",
        "text": f"{GOOD} {sample}",
        "ids": (5, 6, 2),
        "finished": True,
        "S": float(sample),
        "n_tokens": 3,
    }
    return Candidate(**{**fields, **changes})


def judged(*candidates, k=1, min_words=10, grounded=True):
    def score(each):
        return each.S

    return top_k(candidates, k, score=score, min_words=min_words, grounded=grounded)


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({}, "chosen"),
        ({"context": "", "text": "", "finished": False}, "no grounding"),
        ({"text": " \n"}, "empty"),
        ({"finished": False}, "unfinished"),
        ({"text": f"{GOOD} It is at [0.12, 0.30, 0.55, 0.90]."}, "leaked"),
        ({"text": f"{GOOD} It is at (0.5, .25)."}, "leaked"),
        ({"text": f"{GOOD} As the context says, it is wet."}, "leaked"),
        ({"text": f"{GOOD} The bounding boxes overlap."}, "leaked"),
        ({"text": f"{GOOD} </context>"}, "leaked"),
        ({"text": "There is a cat on the left. " * 3}, "repetitive"),
        ({"text": f"{GOOD} very very very very very very wet"}, "repetitive"),
        ({"text": "A dog runs after a ball on grass."}, "short"),
    ],
)
def test_each_flaw_drops_a_candidate_and_a_good_one_stays(changes, outcome):
    assert [each.outcome for each in judged(candidate(**changes))] == [outcome]


@pytest.mark.parametrize(
    "text",
    [
        f"{GOOD} It costs 2.50, is 3.5 m long (about 11 feet), and has 4, 5 or 6 spots.",
        f"{GOOD} (It seems happy.) The boxes on the left are of wood.",
        "There is a cat on the left. There is a cat on the right. There is a dog on the left.",
        f"{GOOD} It is very very very wet.",
    ],
)
def test_ordinary_numbers_boxes_and_repetitions_are_no_flaw(text):
    assert [each.outcome for each in judged(candidate(text=text))] == ["chosen"]


@pytest.mark.parametrize(
    ("text", "stuck"),
    [
        ("a a a a a", False),
        ("a a a a a a", True),
        ("red ball red ball", False),
        ("red ball red ball red ball", True),
        ("one two three four one two three four one two three", False),
        ("one two three four one two three four one two three four", True),
        ("Ooooooooooh", False),
        ("Nooooooooooooo", True),
        ("A cat. A dog. A cat. A bird.", False),
        ("A cat. A dog. A cat. A bird. a CAT.", True),
        ("", False),
    ],
)
def test_a_text_is_stuck_from_the_stated_number_on(text, stuck):
    assert repeats(text) is stuck


def test_the_first_of_equal_texts_stays():
    found = judged(candidate(0, text=GOOD), candidate(1, text=f"{GOOD}\n"), candidate(2), k=3)
    assert [each.outcome for each in found] == ["chosen", "duplicate", "chosen"]


def test_a_flawed_text_makes_no_later_one_a_duplicate():
    found = judged(candidate(0, text=GOOD, finished=False), candidate(1, text=GOOD))
    assert [each.outcome for each in found] == ["unfinished", "chosen"]


def test_the_k_highest_scores_are_chosen_and_ties_go_to_the_earlier():
    scores = [1.0, 5.0, 3.0, 5.0, 2.0, 5.0]
    found = judged(*(candidate(n, S=score) for n, score in enumerate(scores)), k=2)
    assert [each.outcome for each in found] == ["rank", "chosen", "rank", "chosen", "rank", "rank"]
    assert [each.sample for each in found] == [0, 1, 2, 3, 4, 5]


def test_a_flawed_candidate_takes_no_place_among_the_best():
    found = judged(candidate(0, S=9.0, finished=False), candidate(1, S=1.0), candidate(2, S=0.0))
    assert [each.outcome for each in found] == ["unfinished", "chosen", "rank"]


def test_fewer_than_k_are_chosen_where_fewer_are_sound():
    found = judged(candidate(0), candidate(1, text=""), k=4)
    assert [each.outcome for each in found] == ["chosen", "empty"]


def test_without_grounding_no_context_is_asked_for():
    assert judged(candidate(context=""), grounded=False)[0].outcome == "chosen"


@pytest.mark.parametrize(
    ("samples", "ratio", "k"), [(20, 0.2, 4), (20, 0.1, 2), (10, 0.1, 1), (3, 0.1, 1), (5, 1.0, 5)]
)
def test_k_is_the_rounded_share_of_the_samples(samples, ratio, k):
    assert ProjectionConfig(samples=samples, top_ratio=ratio).k == k


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"samples": 0}, "samples is 0"),
        ({"top_ratio": 0.0}, "top_ratio is 0"),
        ({"temperature": 0.0}, "temperature is 0"),
        ({"min_words": -1}, "min_words is -1"),
        ({"grounded_prompt": "Describe."}, "{grounding}"),
        ({"grounding": False}, "give random"),
    ],
)
def test_an_impossible_projection_is_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        ProjectionConfig(**changes)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"iterations": 0}, "iterations is 0"),
        ({"learning_rate": 0.0}, "learning_rate is 0"),
        ({"warmup_ratio": 1.5}, "warmup_ratio is 1.5"),
        (
            {
                "inference_only": True,
                "projection": ProjectionConfig(grounding=False, select="random"),
            },
            "guided answers",
        ),
    ],
)
def test_an_impossible_run_is_refused(changes, said):
    data = DataConfig(format="world", limit=8)
    with pytest.raises(ValueError, match=said):
        Config(output_dir=Path("run"), data=data, **changes)


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"nms_iou": 1.5}, "nms_iou is 1.5"), ({"max_boxes": 0}, "max_boxes is 0")],
)
def test_an_impossible_way_to_ask_the_detector_is_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        GroundingConfig(**changes)


def box(phrase, score, corners):
    return Detection(phrase=phrase, label=phrase, score=score, box=corners, box_pixels=corners)


def test_the_context_holds_one_label_and_box_a_line():
    boxes = (box("dog", 0.9, (0.1, 0.2, 0.3, 0.6)), box("red cup", 0.5, (0, 0, 1, 1)))
    assert GroundingConfig().context(boxes) == (
        "dog [0.10, 0.20, 0.30, 0.60]\nred cup [0.00, 0.00, 1.00, 1.00]"
    )
    assert GroundingConfig(box_format="cxcywh").context(boxes[:1]) == (
        "dog [0.20, 0.40, 0.20, 0.40]"
    )


def test_boxes_are_written_best_first_or_leftmost_first_with_a_bullet():
    best, left = box("dog", 0.9, (0.5, 0, 1, 1)), box("cat", 0.8, (0, 0, 0.4, 1))
    by_score = GroundingConfig().context((best, left)).splitlines()
    assert [line.split()[0] for line in by_score] == ["dog", "cat"]
    by_place = GroundingConfig(order="left-to-right", bullet="- ").context((best, left))
    assert [line.split()[:2] for line in by_place.splitlines()] == [["-", "cat"], ["-", "dog"]]
    with pytest.raises(ValueError, match="choose one of score, left-to-right"):
        GroundingConfig(order="random")


def test_pooled_boxes_are_those_of_all_samples_without_the_weaker_of_two_on_one_place():
    dog, same_dog = box("dog", 0.6, (0, 0, 0.5, 0.5)), box("dog", 0.9, (0, 0, 0.5, 0.49))
    cat = box("cat", 0.7, (0.5, 0.5, 1, 1))
    assert GroundingConfig().pool([(dog,), (), (cat, same_dog)]) == (same_dog, cat)
    assert GroundingConfig(max_boxes=1).pool([(dog,), (cat,)]) == (cat,)
    assert GroundingConfig().pool([(), ()]) == ()


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({"text": "Yes."}, "chosen"),
        ({"text": ""}, "empty"),
        ({"text": "Yes", "finished": False}, "unfinished"),
    ],
)
def test_every_finished_answer_to_a_query_is_learned(changes, outcome):
    assert answered(candidate(kind="query", **changes)).outcome == outcome


def test_metrics_count_descriptions_and_sum_over_the_sound_ones():
    found = [
        candidate(0, S=4.0, Delta=-2.0, outcome="chosen"),
        candidate(1, S=2.0, Delta=1.0, outcome="rank", text="A dog."),
        candidate(2, S=9.0, outcome="leaked"),
        candidate(3, context="", outcome="no grounding"),
        candidate(0, kind="query", outcome="chosen"),
    ]
    counted = tallies(found)
    assert counted["sound"] == (2, 4)
    assert counted["chosen"] == (1, 4)
    assert counted["no_grounding"] == (1, 4)
    assert counted["S"] == (6.0, 2)
    assert counted["Delta_chosen"] == (-2.0, 1)
    assert counted["opening"] == (1, 2)
    assert counted["objects"] == (2, 2)
    assert counted["queries"] == (1, 4)


def test_files_give_back_what_was_written_in_the_order_of_the_run(tmp_path):
    first, second = (CandidateFiles(tmp_path / "c", Process(rank, 2)) for rank in range(2))
    odd = candidate(1, place=0, text="a\u2028b\x85c \U0001f600\n", S=0.1 + 0.2)
    query = candidate(0, place=0, kind="query", text="Yes.")
    later = candidate(0, place=1)
    assert not first.has(0, 0)
    second.write(0, 0, [later])
    first.write(0, 0, [odd, query])
    assert first.has(0, 0)
    assert not first.has(0, 1)
    assert not first.has(1, 0)
    assert first.part(0, 0) == (odd, query)
    assert first.all(0) == second.all(0) == (odd, query, later)
    first.clear()
    assert not first.has(0, 0)


def test_an_image_without_a_sound_candidate_is_answered_with_its_draft():
    flawed = [candidate(n, outcome="leaked", draft=f"Draft {n}.") for n in range(2)]
    assert _answer(flawed, lambda each: each.S)["answer"] == "Draft 0."
    sound = [replace(flawed[0]), candidate(1, outcome="chosen"), candidate(2, outcome="chosen")]
    assert _answer(sound, lambda each: each.S)["answer"] == sound[2].text


def test_half_of_the_questions_are_about_objects_of_other_images_alone():
    vocabulary = load_vocabulary()
    own = ["A dog and a cat.", "An umbrella and a dog."]
    others = ["A cat, a kite and two oranges.", "A person with a frisbee."]
    asked = object_questions(own, others, count=4, seed=3, vocabulary=vocabulary)
    subjects = [phrases_in(each, vocabulary)[0] for each in asked]
    assert len(set(subjects)) == 4
    assert set(subjects[:2]) <= {"dog", "cat", "umbrella"}
    assert set(subjects[2:]) <= {"kite", "orange", "person", "frisbee"}
    assert asked == object_questions(own, others, count=4, seed=3, vocabulary=vocabulary)
    assert asked != object_questions(own, others, count=4, seed=4, vocabulary=vocabulary)


@pytest.mark.parametrize(
    ("own", "others", "count"),
    [([], ["A kite."], 1), (["A dog."], [], 1), (["A dog."], ["Cat"], 2)],
)
def test_one_half_of_the_questions_fills_up_for_the_other(own, others, count):
    found = object_questions(own, others, count=5, seed=0, vocabulary=load_vocabulary())
    assert len(found) == count


@pytest.mark.parametrize("name", ["dog", "umbrella", "orange"])
def test_questions_are_worded_as_the_world_words_them(name):
    [asked] = object_questions([name], [], count=1, seed=0, vocabulary=load_vocabulary())
    assert asked == question(name)


def test_the_prompts_are_those_of_the_papers_appendix():
    assert svp_prompts.GROUNDED == (
        "<context> {grounding} </context> Please generate a detailed and comprehensive "
        "description for the content of this image. Be precise."
    )
    assert svp_prompts.SAMPLING_SYSTEM.startswith(
        "You are an AI visual-language assistant that can analyze images and helps writing "
        "detailed descriptions of images.\n\n<instruction>\n\nDescribe the scene and the objects "
        "in the image in details."
    )
    assert svp_prompts.SAMPLING_SYSTEM.endswith(
        'relative position between the objects. Start your description with "In the image, ".'
        "\n\n</instruction>"
    )
    assert "These values correspond to the top left x, top left y, bottom right x, and bottom " in (
        svp_prompts.GROUNDED_SYSTEM
    )
    assert "Do not mention the bounding box coordinates." in svp_prompts.GROUNDED_SYSTEM
    assert "coordinates" not in svp_prompts.SAMPLING_SYSTEM


@pytest.mark.parametrize("recipe", sorted(RECIPES.glob("*_svp.yaml")), ids=lambda path: path.stem)
def test_every_recipe_is_a_configuration_with_the_papers_counts(recipe):
    config = read_config(Config, recipe, [])
    images = config.data.limit
    assert config.projection.k == {"world_svp": 1, "llava_ov_7b_svp": 1}.get(recipe.stem, 4)
    if recipe.stem != "world_svp":
        chosen = {1000: 4000, 2000: 2000}[images]
        assert images * config.projection.k == chosen
        assert config.projection.sampling_prompt == svp_prompts.SAMPLING_PROMPT


def test_the_fields_can_be_listed(capsys):
    assert main(["svp", "--fields"]) == 0
    said = capsys.readouterr().out
    assert "--projection.samples (default: 20)" in said
    assert "--projection.boxes.nms_iou (default: 0.7)" in said
