"""OWL-ViT, OWLv2 and Grounding DINO against the libraries' own forward and post-processing."""

import random

import numpy as np
import PIL.Image
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline_service.models.boxes import clamped_corners
from sightline_service.models.load import load_detector
from sightline_service.models.protocols import TextRefusedError

KINDS = ["owlvit", "owlv2", "dino", "mm_dino"]
PHRASES = ("dog", "hot dog", "a large red umbrella")


@pytest.fixture(scope="module")
def folders(owlvit_folder, owlv2_folder, dino_folder, mm_dino_folder):
    return {
        "owlvit": owlvit_folder,
        "owlv2": owlv2_folder,
        "dino": dino_folder,
        "mm_dino": mm_dino_folder,
    }


@pytest.fixture(scope="module")
def served(folders):
    return {
        kind: load_detector(f"hf:{folder}", device="cpu", dtype="float32")
        for kind, folder in folders.items()
    }


def detect(detector, image, phrases, *, text_threshold=0.25):
    prepared = detector.prepare(image, phrases, text_threshold=text_threshold)
    return [detection for one in prepared for detection in detector.detect([one])[0]]


def library_output(folder, image, text):
    model = transformers.AutoModelForZeroShotObjectDetection.from_pretrained(folder).eval()
    processor = transformers.AutoProcessor.from_pretrained(folder)
    inputs = processor(images=image, text=text, return_tensors="pt")
    with torch.inference_mode():
        outputs = model(**inputs)
    return processor, inputs, outputs


@pytest.mark.parametrize("kind", ["owlvit", "owlv2"])
@pytest.mark.parametrize("size", [(64, 64), (96, 48), (40, 100)])
def test_owl_detections_equal_the_librarys_post_processing(kind, size, folders, served):
    source = np.random.default_rng(3).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    image = PIL.Image.fromarray(source)
    processor, _, outputs = library_output(folders[kind], image, [list(PHRASES)])
    (theirs,) = processor.post_process_grounded_object_detection(
        outputs, threshold=0.05, target_sizes=[(size[1], size[0])]
    )
    ours = detect(served[kind], image, PHRASES)
    order = theirs["scores"].argsort(descending=True, stable=True).tolist()
    assert len(ours) == len(order) > 0
    width, height = size
    for detection, row in zip(ours, order, strict=True):
        assert detection.score == pytest.approx(float(theirs["scores"][row]), abs=1e-5)
        assert detection.phrase_index == int(theirs["labels"][row])
        assert detection.label == PHRASES[detection.phrase_index]
        x1, y1, x2, y2 = theirs["boxes"][row].tolist()
        expected = np.clip([x1 / width, y1 / height, x2 / width, y2 / height], 0, 1)
        np.testing.assert_allclose(detection.box, expected, atol=1e-5)


def test_a_box_on_a_padded_square_is_mapped_by_hand():
    # A 200 x 100 image fills the upper half of the square: y counts double, x as it is.
    box = clamped_corners((0.5, 0.25, 0.2, 0.3), across=1.0, down=0.5)
    assert box == pytest.approx((0.4, 0.2, 0.6, 0.8))
    # The same in a tall image, and a box that hangs over the left edge and into the padding.
    assert clamped_corners((0.05, 0.5, 0.2, 1.4), across=0.5) == pytest.approx((0, 0, 0.3, 1))


@pytest.mark.parametrize("kind", KINDS)
def test_boxes_lie_in_the_image_and_scores_are_sorted_above_the_floor(kind, served, mixed_images):
    for image in mixed_images:
        found = detect(served[kind], image, PHRASES)
        scores = [detection.score for detection in found]
        assert scores == sorted(scores, reverse=True)
        assert all(0.05 <= score <= 1 for score in scores)
        for detection in found:
            x1, y1, x2, y2 = detection.box
            assert 0 <= x1 <= x2 <= 1
            assert 0 <= y1 <= y2 <= 1


@pytest.mark.parametrize("kind", ["dino", "mm_dino"])
def test_dino_scores_and_boxes_equal_the_librarys_forward(kind, folders, served, mixed_images):
    prompt = "dog. hot dog. a large red umbrella."
    for image in mixed_images[:5]:
        processor, inputs, outputs = library_output(folders[kind], image, prompt)
        words = processor.tokenizer.convert_ids_to_tokens(inputs["input_ids"][0])
        stops = [place for place, word in enumerate(words) if word == "."]
        spans = [range(1, stops[0]), range(stops[0] + 1, stops[1]), range(stops[1] + 1, stops[2])]
        assert [" ".join(words[place] for place in span) for span in spans] == list(PHRASES)
        scores = outputs.logits[0].sigmoid()
        expected = []
        for row in range(12):
            best = [max(float(scores[row, place]) for place in span) for span in spans]
            x, y, width, height = outputs.pred_boxes[0, row].tolist()
            corners = [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
            expected.append((max(best), best.index(max(best)), np.clip(corners, 0, 1)))
        expected.sort(key=lambda entry: -entry[0])
        ours = detect(served[kind], image, PHRASES)
        assert len(ours) == sum(score >= 0.05 for score, _, _ in expected) > 0
        for detection, (score, index, box) in zip(ours, expected, strict=False):
            assert detection.score == pytest.approx(score, abs=1e-5)
            assert detection.phrase_index == index
            np.testing.assert_allclose(detection.box, box, atol=1e-5)


def test_a_dino_label_holds_the_phrases_tokens_above_the_text_threshold(served, mixed_images):
    image, phrases = mixed_images[0], ("chest of drawers", "dog")
    for detection in detect(served["dino"], image, phrases, text_threshold=0.0):
        assert detection.label == phrases[detection.phrase_index]
    for detection in detect(served["dino"], image, phrases, text_threshold=1.0):
        assert detection.label == phrases[detection.phrase_index]
    labels = set()
    for threshold in np.linspace(0.05, 0.95, 19):
        for detection in detect(served["dino"], image, phrases, text_threshold=float(threshold)):
            assert set(detection.label.split()) <= set(phrases[detection.phrase_index].split())
            labels.add(detection.label)
    assert labels - set(phrases)


@pytest.mark.parametrize("kind", KINDS)
def test_detections_do_not_depend_on_neighbours_or_order(kind, served, mixed_images):
    detector = served[kind]
    asked = [PHRASES, ("cat",), ("dog", "a man rides a horse", "tennis racket"), ("red bus",)]
    prepared = [
        one
        for place, image in enumerate(mixed_images)
        for one in detector.prepare(image, asked[place % len(asked)], text_threshold=0.25)
    ]
    alone = [detector.detect([one])[0] for one in prepared]
    sizes = set()
    for seed in range(3):
        order = random.Random(seed).sample(range(len(prepared)), len(prepared))
        for group in {prepared[place].group for place in order}:
            places = [place for place in order if prepared[place].group == group]
            sizes.add(len(places))
            together = detector.detect([prepared[place] for place in places])
            for place, found in zip(places, together, strict=True):
                assert len(found) == len(alone[place])
                for ours, single in zip(found, alone[place], strict=True):
                    assert ours.score == pytest.approx(single.score, abs=1e-5)
                    np.testing.assert_allclose(ours.box, single.box, atol=1e-4)
    assert max(sizes) >= 3


def test_dino_images_of_different_resized_shapes_never_share_a_batch(served, mixed_images):
    groups = {
        image.size: served["dino"].prepare(image, ("dog",), text_threshold=0.25)[0].group
        for image in mixed_images
    }
    # 64 x 48 is scaled to a shorter side of 96; 200 x 50 only to a longer side of 160.
    assert groups[(64, 48)] == (96, 128)
    assert groups[(200, 50)] == (40, 160)
    assert len(set(groups.values())) == len(groups) - 1  # 128 x 96 has the shape of 64 x 48


def test_a_long_dino_prompt_becomes_several_and_keeps_every_phrases_index(served, mixed_images):
    phrases = tuple(
        f"{colour} {thing}" for colour in ("red", "large") for thing in ("dog", "cat", "bus", "man")
    )
    prepared = served["dino"].prepare(mixed_images[0], phrases, text_threshold=0.25)
    # [CLS], [SEP] and three tokens for each phrase: seven phrases fill 23 of 24 places.
    assert [len(one.data.ids) for one in prepared] == [23, 5]
    assert not any(one.truncated for one in prepared)
    indices = [phrase.index for one in prepared for phrase in one.data.phrases]
    assert indices == list(range(8))
    (last,) = served["dino"].detect([prepared[1]])
    assert {detection.phrase_index for detection in last} == {7}
    alone = detect(served["dino"], mixed_images[0], (phrases[7],))
    assert [(one.score, one.box) for one in last] == [(one.score, one.box) for one in alone]


def test_phrases_that_fill_the_prompt_exactly_stay_in_one(served, mixed_images):
    # 2 + 7 * 3 + 1 = 24
    phrases = ("red dog",) * 6 + ("large red bus",)
    prepared = served["dino"].prepare(mixed_images[0], phrases, text_threshold=0.25)
    assert [len(one.data.ids) for one in prepared] == [24]


def test_a_dino_phrase_longer_than_the_prompt_is_cut_and_reported(served, mixed_images):
    endless = "dog " * 40
    (prepared,) = served["dino"].prepare(mixed_images[0], (endless,), text_threshold=0.25)
    assert prepared.truncated
    assert len(prepared.data.ids) == 24
    assert served["dino"].detect([prepared])


def test_punctuation_in_a_phrase_does_not_split_it(served, mixed_images):
    plain = detect(served["dino"], mixed_images[0], ("hot dog", "cat"))
    odd = detect(served["dino"], mixed_images[0], (" Hot. dog? ", "CAT."))
    assert [(one.phrase_index, one.score) for one in odd] == [
        (one.phrase_index, one.score) for one in plain
    ]


@pytest.mark.parametrize("phrase", ["...", " ", "?"])
def test_a_phrase_without_a_word_is_refused(phrase, served, mixed_images):
    with pytest.raises(TextRefusedError, match="name an object"):
        served["dino"].prepare(mixed_images[0], ("dog", phrase), text_threshold=0.25)


@pytest.mark.parametrize("kind", ["owlvit", "owlv2"])
def test_a_long_owl_query_is_cut_at_the_context_and_reported(kind, served, mixed_images):
    (short,) = served[kind].prepare(mixed_images[0], ("dog",), text_threshold=0.25)
    (cut,) = served[kind].prepare(mixed_images[0], ("dog", "a cat " * 30), text_threshold=0.25)
    assert not short.truncated
    assert cut.truncated
    assert len(cut.data.ids[1]) == 16
    assert cut.data.ids[1][-1] == short.data.ids[0][-1]
    assert served[kind].detect([cut])


@settings(max_examples=150, deadline=None)
@given(phrases=st.lists(st.text(min_size=1, max_size=30), min_size=1, max_size=6))
def test_any_phrases_share_prompts_in_which_each_keeps_its_own_tokens(served, phrases):
    image = PIL.Image.new("RGB", (96, 96))
    try:
        prepared = served["dino"].prepare(image, tuple(phrases), text_threshold=0.25)
    except TextRefusedError:
        return
    seen = []
    for one in prepared:
        assert len(one.data.ids) <= 24
        for phrase, span in zip(one.data.phrases, one.data.spans, strict=True):
            seen.append(phrase.index)
            assert len(span) == phrase.n_tokens > 0
            assert span[-1] < len(one.data.ids) - 1
            alone = served["dino"]._tokenizer.spans(phrase.text)[0]
            assert tuple(one.data.ids[place] for place in span) == alone
    assert seen == list(range(len(phrases)))
