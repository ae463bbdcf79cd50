"""What the trainings stand on: conversions, packed dialogues, losses, metrics, on random models."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from open_clip.model import CLIP
from transformers import AutoModelForZeroShotObjectDetection

from sightline_world.captions import mentioned
from sightline_world.categories import INDEX
from sightline_world.scenes import Layout, SceneObject
from sightline_world.training import captioner, detector, similarity
from sightline_world.training.conversion import to_transformers
from sightline_world.training.detections import detections
from sightline_world.training.detector import Detections
from sightline_world.training.dialogue import Script, asked, batch
from sightline_world.training.metrics import auroc, chair, iou, paired
from sightline_world.training.storage import save_half
from sightline_world.training.targets import BACKGROUND, patch_labels
from sightline_world.training.tokenizers import chat_tokenizer, clip_tokenizer


@pytest.fixture(scope="module")
def clip() -> CLIP:
    torch.manual_seed(0)
    model = similarity.build(len(clip_tokenizer()))
    model.eval()
    return model


@torch.inference_mode()
def test_the_converted_clip_gives_the_same_embeddings(clip: CLIP) -> None:
    converted = to_transformers(clip)
    pixels = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(1))
    ids = similarity.token_ids(clip_tokenizer(), ["dog", "a photo of a hot dog"])
    theirs = converted(input_ids=ids, pixel_values=pixels)
    assert torch.allclose(theirs.image_embeds, clip.encode_image(pixels, normalize=True), atol=1e-5)
    assert torch.allclose(theirs.text_embeds, similarity.encode_text(clip, ids), atol=1e-5)


@torch.inference_mode()
def test_the_short_text_forward_equals_that_of_open_clip(clip: CLIP) -> None:
    tokenizer = clip_tokenizer()
    texts = ["dog", "There is a dog on the left.", "xylophone"]
    ours = similarity.encode_text(clip, similarity.token_ids(tokenizer, texts))
    full = tokenizer(
        texts, padding="max_length", max_length=64, truncation=True, return_tensors="pt"
    ).input_ids
    assert torch.allclose(ours, clip.encode_text(full, normalize=True), atol=1e-5)


def test_a_text_holds_where_all_its_objects_are(clip: CLIP) -> None:
    layouts = [_layout("dog", "kite"), _layout("dog")]
    texts = ["A dog.", "A dog and a kite.", "Nothing here.", "A cat."]
    table = similarity.holds(texts, layouts).tolist()
    assert table == [[1, 1, 1, 0], [1, 0, 1, 0]]


def test_caption_pairs_differ_by_one_absent_object() -> None:
    layouts = [_layout("dog", "kite", "person")] * 40
    right, wrong = similarity.caption_pairs(layouts, np.random.default_rng(0))
    for text, other in zip(right, wrong, strict=True):
        assert set(mentioned(text)) <= {"dog", "kite", "person"}
        assert len(set(mentioned(other)) - {"dog", "kite", "person"}) == 1


def test_the_noun_loss_is_that_of_the_formula() -> None:
    logits = torch.zeros(1, 4)
    present = torch.tensor([[1.0, 0, 0, 0]])
    likely = torch.tensor([[0.0, 1, 0, 0]])
    expected = math.log(2) + 4 * math.log(2)
    assert similarity.noun_loss(logits, present, likely).item() == pytest.approx(expected)


@torch.inference_mode()
def test_branches_of_a_row_do_not_see_each_other(clip: CLIP) -> None:
    tokenizer = chat_tokenizer()
    torch.manual_seed(1)
    llava: Any = captioner.build(clip, tokenizer)
    model = llava.eval().model.language_model
    script = Script(tokenizer)
    branches = [
        script.caption("A photo of a dog."),
        script.grounded([("dog", (0.1, 0.2, 0.3, 0.4))], "A photo of a dog."),
        script.verdict("dog", present=True),
        script.verdict("cat", present=False),
    ]
    packed = batch(script.prefix, [branches])
    hidden = model(
        packed.ids, attention_mask=packed.mask, position_ids=packed.positions, use_cache=False
    ).last_hidden_state[0]
    start = len(script.prefix)
    for branch in branches:
        alone = model(torch.tensor([script.prefix + branch.ids]), use_cache=False)
        wanted = alone.last_hidden_state[0, len(script.prefix) :]
        assert torch.allclose(hidden[start : start + len(branch.ids)], wanted, atol=1e-5)
        start += len(branch.ids)


def test_prompts_of_training_are_those_of_the_chat_template() -> None:
    tokenizer: Any = chat_tokenizer()
    script = Script(tokenizer)
    user = {
        "role": "user",
        "content": [{"type": "image"}, {"type": "text", "text": "Describe the image."}],
    }
    answer = {"role": "assistant", "content": [{"type": "text", "text": "A dog."}]}
    text = tokenizer.apply_chat_template([user, answer], tokenize=False)
    ids = tokenizer(text.replace("<image>", "<image>" * 64)).input_ids
    assert ids == script.prefix + script.caption("A dog.").ids


def test_the_prompt_with_boxes_is_that_of_the_chat_template() -> None:
    tokenizer: Any = chat_tokenizer()
    script = Script(tokenizer)
    question = (
        "<context>\n- dog [0.10, 0.20, 0.30, 0.40]\n- cat [0.00, 0.50, 0.25, 1.00]\n</context>\n"
        "Describe the image."
    )
    user = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}
    answer = {"role": "assistant", "content": [{"type": "text", "text": "A dog and a cat."}]}
    text = tokenizer.apply_chat_template([user, answer], tokenize=False)
    ids = tokenizer(text.replace("<image>", "<image>" * 64)).input_ids
    found = [("dog", (0.1, 0.2, 0.3, 0.4)), ("cat", (0.0, 0.5, 0.25, 1.0))]
    branch = script.grounded(found, "A dog and a cat.")
    assert ids == script.prefix + branch.ids
    n_answer = len(tokenizer(" A dog and a cat.", add_special_tokens=False).input_ids) + 1
    assert [weight > 0 for weight in branch.weights[-n_answer - 1 :]] == [False] + [True] * n_answer


def test_made_up_detections_miss_some_objects_and_invent_few() -> None:
    layout, rng = _layout("dog", "kite", "person", "car"), np.random.default_rng(0)
    reports = [detections(layout, rng) for _ in range(400)]
    names = [[name for name, _ in report] for report in reports]
    assert all(report for report in reports)
    seen = sum(len(set(report) & set(layout.names)) for report in names) / (400 * 4)
    assert 0.87 < seen < 0.93  # 1 - the mean of a share between 0 and 0.2
    assert 0.1 < sum(not set(report) <= set(layout.names) for report in names) / 400 < 0.2
    assert all(0 <= c <= 1 for report in reports for _, box in report for c in box)


def test_a_detected_box_lies_close_to_its_object() -> None:
    layout, rng = _layout("dog"), np.random.default_rng(0)
    boxes = np.array([dict(detections(layout, rng))["dog"] for _ in range(300)])
    truth = np.array(layout.objects[0].box) / 192
    assert np.allclose(boxes.mean(0), truth, atol=0.02)


def test_questions_are_balanced_and_truthful() -> None:
    layout = _layout("dog", "kite", "person")
    questions = asked(layout, np.random.default_rng(0), 2)
    assert [truth for _, truth in questions] == [True, True, False, False]
    assert all((name in layout.names) == truth for name, truth in questions)


def test_the_detectors_shift_moves_the_best_threshold_to_the_default(
    clip: CLIP, tmp_path: Path
) -> None:
    model: Any = detector.build(clip)
    model.eval()
    layouts = [_layout("dog")] * 4
    truth = np.array([[0, 0, 60, 60]]) / 192
    found = [
        Detections(np.array([0.62, 0.5]), np.array([13, 13]), np.concatenate([truth, truth + 0.5]))
        for _ in layouts
    ]
    found = [Detections(f.scores, np.full(2, _DOG), f.boxes) for f in found]
    pixels = torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(1))
    queries = torch.nn.functional.normalize(torch.ones(1, 128), dim=-1)
    with torch.inference_mode():
        before, _ = detector.predict(model, pixels, queries)
    best = detector.calibrate(model, found, layouts)
    assert 0.5 < best <= 0.62
    with torch.inference_mode():
        after, _ = detector.predict(model, pixels, queries)
    moved = math.log(0.35 / 0.65) - math.log(best / (1 - best))
    assert torch.allclose(after - before, torch.full_like(after, moved), atol=1e-4)


def test_a_stored_model_takes_half_the_space_and_opens_in_float32(
    clip: CLIP, tmp_path: Path
) -> None:
    model = detector.build(clip)
    save_half(model, tmp_path)
    size = (tmp_path / "model.safetensors").stat().st_size
    assert size < 2.2 * sum(p.numel() for p in model.parameters())
    opened = AutoModelForZeroShotObjectDetection.from_pretrained(tmp_path)
    assert opened.dtype == torch.float32


def test_detections_are_counted_once_per_object() -> None:
    truth = np.array([[0, 0, 60, 60]]) / 192
    found = Detections(
        np.array([0.9, 0.8, 0.7, 0.2]),
        np.array([_DOG, _DOG, _DOG + 1, _DOG]),
        np.concatenate([truth, truth, truth, truth]),
    )
    figures = detector.quality([found], [_layout("dog", "kite")], 0.35)
    assert figures.precision == pytest.approx(1 / 3)
    assert figures.recall == pytest.approx(1 / 2)
    assert figures.mean_iou == pytest.approx(1.0)


def test_patches_carry_the_name_of_the_box_over_their_centre() -> None:
    layout = Layout("park", (SceneObject("dog", (0, 0, 48, 24)),))
    labels = patch_labels(layout).reshape(8, 8)
    assert (labels[0, :2] == _DOG).all()
    assert (labels == BACKGROUND).sum() == 62


def test_auroc_and_paired_accuracy_count_ties_half() -> None:
    assert auroc(np.array([1.0, 2.0]), np.array([0.0, 1.0])) == pytest.approx(3.5 / 4)
    assert auroc(np.array([3.0]), np.array([1.0, 2.0])) == 1.0
    assert paired(np.array([1.0, 2.0, 0.0]), np.array([0.0, 2.0, 1.0])) == pytest.approx(0.5)


def test_chair_counts_distinct_objects() -> None:
    layouts = [_layout("dog", "kite"), _layout("cat")]
    figures = chair(["A dog. A dog and a cat.", "A cat."], layouts)
    assert figures.chair_s == 50
    assert figures.chair_i == pytest.approx(100 / 3)
    assert figures.recall == pytest.approx(200 / 3)
    assert figures.objects == 1.5
    assert figures.sentences == 1.5


def test_iou_of_shifted_boxes() -> None:
    a = np.array([[0.0, 0.0, 2.0, 2.0]])
    b = np.array([[1.0, 0.0, 3.0, 2.0], [5.0, 5.0, 6.0, 6.0]])
    assert iou(a, b) == pytest.approx(np.array([[1 / 3, 0.0]]))


_DOG = INDEX["dog"]


def _layout(*names: str) -> Layout:
    objects = (SceneObject(name, (60 * i, 0, 60 * i + 60, 60)) for i, name in enumerate(names))
    return Layout("park", tuple(objects))
