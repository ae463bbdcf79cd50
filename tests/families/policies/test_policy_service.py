"""The service's perplexity model of each family scores what the trainers' policy does."""

from collections import defaultdict

import numpy as np
import PIL.Image
import pytest
import torch

from sightline_service.models.load import load_perplexity
from sightline_service.models.protocols import TextRefusedError
from sightline_trainers.logprobs import token_log_probs

TEXTS = ["A cat is on the table.", "x", "An über cup, and a dog."]


@pytest.fixture(scope="session")
def served(folder):
    return load_perplexity(f"hf:{folder}", device="cpu", dtype="float32")


@torch.no_grad()
def test_prompts_and_log_probs_are_those_of_the_policy(load, served, images, questions):
    policy = load()
    for image, question, text in zip(images, questions, TEXTS, strict=True):
        prepared = served.prepare(image, question, text)
        (scores,) = served.score([prepared])
        prompt = policy.prompts.encode(image, question)
        ids, start = prepared.data.ids, prepared.data.start
        assert list(ids[:start]) == prompt["input_ids"][0].tolist()
        answer = torch.tensor([ids[start:]])
        logits, _ = policy(prompt, answer, torch.ones_like(answer))
        wanted = token_log_probs(logits, answer)[0].numpy()
        np.testing.assert_allclose(scores.log_probs, wanted, atol=1e-4)
        assert policy.prompts.decode(list(answer[0])).strip() == text
        assert "".join(text[start:end] for start, end in dict.fromkeys(scores.offsets)) in (
            text,
            text.replace(" ", ""),
        )


def test_an_item_scores_the_same_whatever_its_neighbours(served, images, questions):
    prepared = [
        served.prepare(image, question, text)
        for image in (*images, images[0])
        for question in questions
        for text in TEXTS
    ]
    groups = {each.group: [] for each in prepared}
    for each in prepared:
        groups[each.group].append(each)
    assert max(map(len, groups.values())) > 1
    for members in groups.values():
        for each, scores in zip(members, served.score(members), strict=True):
            (alone,) = served.score([each])
            np.testing.assert_allclose(scores.log_probs, alone.log_probs, atol=1e-4)


SIZES = [(84, 56), (168, 28), (56, 84), (84, 56)]
"""Qwen sees as many patches in all of them, in other places."""
ENOUGH_TO_SHARE = 6
"""Times that an item asks for the same texts, so that its opening is worth a pass of its own."""


def test_texts_of_one_item_score_as_alone_though_they_share_a_forward_pass(
    served, family, images, questions
):
    pictures = [images[0].resize(size, PIL.Image.Resampling.NEAREST) for size in SIZES]
    pictures[-1] = pictures[-1].rotate(180)
    asked = [
        (picture, question)
        for picture in [*pictures, *([] if served.needs_image else [None, None])]
        for question in questions
    ]
    texts = TEXTS * ENOUGH_TO_SHARE
    batches = defaultdict(list)
    for picture, question in asked:
        item = served.prepare_each(picture, question, texts)
        alone = served.score([served.prepare(picture, question, text) for text in TEXTS])
        batches[item[0].group].append((item, alone * ENOUGH_TO_SHARE))
    for members in batches.values():
        batch = [item[place] for place in range(len(texts)) for item, _ in members]
        wanted = [alone[place] for place in range(len(texts)) for _, alone in members]
        for scores, by_itself in zip(served.score(batch), wanted, strict=True):
            np.testing.assert_allclose(scores.log_probs, by_itself.log_probs, atol=1e-4)
    shared = served.prepare_each(pictures[0], questions[0], texts)[0].data.opening.is_shared
    assert shared == (family != "instructblip")  # its Q-Former has no place for a second pass


def test_a_text_without_an_image_is_scored_where_the_family_can(served):
    if served.needs_image:
        pytest.skip("refused by the service before it gets here")
    (scores,) = served.score([served.prepare(None, "What?", TEXTS[0])])
    assert np.isfinite(scores.log_probs).all()


def test_the_images_marker_in_a_prompt_or_text_is_refused(served, policy, images):
    marker = str(policy.prompts.processor.image_token)
    with pytest.raises(TextRefusedError, match="stands for the image"):
        served.prepare(images[0], "What?", f"A {marker}.")
    with pytest.raises(TextRefusedError, match="stands for the image"):
        served.prepare(images[0], f"{marker} {marker}", "A cat.")
