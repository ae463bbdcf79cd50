"""What the demo measures on a world whose verifier sees every object."""

from dataclasses import replace

import pytest

from sightline_eval.findings import LEVELS, find, own_scores
from sightline_eval.lexicon import load_lexicon
from sightline_eval.separation import separate
from sightline_world.categories import INDEX, prior, scene_type


def test_words_separate_perfectly_and_captions_only_within_an_image(demo):
    hard = demo.findings.hard
    assert hard["token"].pooled.value == 1.0
    assert hard["token"].paired.value == 1.0
    assert hard["caption"].paired.value == 1.0
    assert (hard["token"].n_hallucinated, hard["caption"].n_correct) == (12, 12)
    present = sum(len(scene.truth) for scene in demo.survey.scenes)
    assert hard["token"].n_correct == present


def test_only_the_sentence_with_the_swap_is_compared(demo):
    assert demo.findings.hard["sentence"].n_pairs == 12
    assert demo.findings.hard["sentence"].paired.value == 1.0


def test_the_prior_scores_the_same_nouns_by_their_frequency(demo):
    expected = []
    for surveyed in demo.survey.scenes:
        layout = surveyed.captioned.scene.layout
        frequency = prior(scene_type(layout.kind))
        inserted = frequency[INDEX[surveyed.swap.inserted]]
        expected += [
            (frequency[INDEX[name]] > inserted) + 0.5 * (frequency[INDEX[name]] == inserted)
            for name in layout.names
        ]
    paired = demo.findings.hard["prior token"].paired.value
    assert paired == pytest.approx(sum(expected) / len(expected))


def test_a_mention_has_its_words_its_sentences_and_its_captions_score(demo):
    scene = demo.survey.scenes[1]
    by_level = {
        level: own_scores([scene], lambda scene: scene.greedy, level)[0] for level in LEVELS
    }
    assert set(by_level["token"].correct) == {30.0}
    assert set(by_level["caption"].correct) == {scene.greedy.score}
    first = next(
        span for span, label in zip(scene.greedy.spans, scene.greedy.labels, strict=True) if label
    )
    sentence = scene.greedy.sentence_of(first)
    assert sentence.start <= first.start < first.end <= sentence.end
    assert by_level["sentence"].correct[0] == sentence.score


def test_hallucinations_of_captions_and_verdicts_agree(demo):
    verdicts = demo.findings.verdicts
    hallucinated = sum(scores.n_hallucinated for scores in demo.findings.chair.values())
    assert sum(verdicts["hallucinated"].values()) == hallucinated > 0
    assert verdicts["correct"].keys() == {"supported"}  # 30 lies above the fake's threshold
    assert verdicts["hallucinated"].keys() == {"hallucinated"}


def test_boxes_are_counted_over_all_scenes(demo):
    boxes = demo.findings.boxes
    assert boxes.n_true == sum(len(scene.truth) for scene in demo.survey.scenes)
    assert boxes.n_found == sum(len(scene.detections) for scene in demo.survey.scenes)


def test_without_a_profile_there_are_no_verdicts(demo):
    scenes = tuple(
        replace(scene, greedy=_unjudged(scene.greedy), sampled=_unjudged(scene.sampled))
        for scene in demo.survey.scenes
    )
    findings = find(replace(demo.survey, scenes=scenes), load_lexicon("clean"), resamples=5)
    assert findings.verdicts == {}


def test_an_interval_holds_its_value(demo):
    for separation in demo.findings.hard.values():
        for estimate in (separation.pooled, separation.paired):
            assert estimate.low <= estimate.value <= estimate.high


def test_own_scores_are_what_the_findings_rest_on(demo):
    scenes = demo.survey.scenes
    again = separate(own_scores(scenes, lambda scene: scene.sampled, "caption"), resamples=50)
    assert again == demo.findings.own["sampled"]["caption"]


def _unjudged(text):
    spans = tuple(span.model_copy(update={"reward": None, "verdict": None}) for span in text.spans)
    return replace(text, spans=spans)
