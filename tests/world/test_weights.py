"""The shipped weights: complete, small, loadable by their libraries, and good enough to ship."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from sightline_world import weights
from sightline_world.captioner import Captioner
from sightline_world.captions import faithful, mentioned, question
from sightline_world.categories import INDEX, NAMES
from sightline_world.scenes import Scene, absent, scenes
from sightline_world.splits import stream
from sightline_world.training.conversion import to_transformers
from sightline_world.training.detector import THRESHOLD, quality
from sightline_world.training.detector_quality import detect
from sightline_world.training.metrics import auroc, chair
from sightline_world.training.pool import model_view
from sightline_world.training.similarity import pixel_values

Similarity = tuple[Any, Any, Any]


@pytest.fixture(scope="module")
def drawn() -> list[Scene]:
    return list(scenes("validation", 80))


@pytest.fixture(scope="module")
def similarity(tmp_path_factory: pytest.TempPathFactory) -> Similarity:
    """Loaded from a copy, so that nothing depends on where the package lies."""
    folder = tmp_path_factory.mktemp("elsewhere") / "clip"
    shutil.copytree(weights.path("similarity"), folder)
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    return model.eval(), preprocess, open_clip.get_tokenizer(f"local-dir:{folder}")


@pytest.fixture(scope="module")
def captioner() -> Captioner:
    return Captioner()


def test_the_weights_are_small_and_each_has_a_card_with_measured_figures() -> None:
    sizes = [
        file.stat().st_size
        for model in weights.MODELS
        for file in weights.path(model).rglob("*")
        if file.is_file()
    ]
    assert sum(sizes) <= 20 * 2**20
    for model in weights.MODELS:
        folder = weights.path(model)
        measured = json.loads((folder / "metrics.json").read_text())
        assert {"validation", "test"} <= set(measured)
        assert "| figure | validation | test |" in (folder / "README.md").read_text()


def test_a_model_that_is_not_shipped_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="no shipped model 'speaker'"):
        weights.path("speaker")  # type: ignore[arg-type]  # the mistake under test
    monkeypatch.setattr(weights, "_FOLDER", tmp_path)
    with pytest.raises(FileNotFoundError, match="run `make world`"):
        weights.path("detector")
    with pytest.raises(FileNotFoundError, match="run `make world`"):
        weights.profile_path()


def test_training_pixels_equal_those_of_the_preprocessing(
    similarity: Similarity, drawn: list[Scene]
) -> None:
    _, preprocess, _ = similarity
    ours = pixel_values(model_view(drawn[0].image)[None])[0]
    assert torch.allclose(ours, preprocess(drawn[0].image), atol=1e-6)


def test_the_similarity_model_tells_present_from_scene_likely_absent_nouns(
    similarity: Similarity, drawn: list[Scene]
) -> None:
    model, preprocess, tokenizer = similarity
    with torch.inference_mode():
        pixels = torch.stack([preprocess(one.image) for one in drawn])
        images = model.encode_image(pixels, normalize=True)
        cosines = (images @ model.encode_text(tokenizer(list(NAMES)), normalize=True).T).numpy()
    present = [
        cosines[row, INDEX[name]] for row, one in enumerate(drawn) for name in one.layout.names
    ]
    hard = [
        cosines[row, INDEX[absent(one.layout, stream("validation", one.index, purpose="absent"))]]
        for row, one in enumerate(drawn)
    ]
    assert auroc(np.array(present), np.array(hard)) >= 0.93


def test_the_similarity_tokenizer_takes_any_text(similarity: Similarity) -> None:
    model, _, tokenizer = similarity
    texts = ["a xylophone", "日本 🎉 e\u0301", "", "dog " * 200, "<|endoftext|> cat"]
    ids = tokenizer(texts)
    assert ids.shape == (5, 64)
    assert torch.isfinite(model.encode_text(ids)).all()
    inner = tokenizer.tokenizer
    text = "a xylophone plays 日本 🎉"
    assert inner.decode(inner(text).input_ids, skip_special_tokens=True) == text


def test_the_detector_finds_the_objects_at_the_default_threshold(drawn: list[Scene]) -> None:
    some = drawn[:60]
    found = detect(weights.path("detector"), [one.image for one in some])
    figures = quality(found, [one.layout for one in some], THRESHOLD)
    assert figures.recall >= 0.8
    assert figures.precision >= 0.8


def test_the_captioner_sees_with_the_similarity_model(
    similarity: Similarity, captioner: Captioner
) -> None:
    expected = to_transformers(similarity[0]).vision_model.state_dict()
    tower = captioner.model.model.vision_tower.state_dict()
    shared = {name.removeprefix("vision_model."): value for name, value in tower.items()}
    assert shared.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in shared.items())


def test_the_captioner_describes_in_sentences_and_hallucinates_as_its_card_says(
    captioner: Captioner, drawn: list[Scene]
) -> None:
    some = drawn[:50]
    texts = captioner.caption([one.image for one in some])
    figures = chair(texts, [one.layout for one in some])
    assert 15 <= figures.chair_s <= 80
    assert figures.recall >= 45
    assert 2.5 <= figures.sentences <= 5.5
    assert all(text.endswith(".") for text in texts)


def test_the_captioner_answers_questions_better_than_chance(
    captioner: Captioner, drawn: list[Scene]
) -> None:
    images: list[Image.Image] = []
    questions: list[str] = []
    for one in drawn:
        wrong = absent(one.layout, stream("validation", one.index, purpose="absent"))
        images += [one.image, one.image]
        questions += [question(one.layout.names[0]), question(wrong)]
    said = np.array(captioner.answers(images, questions)).reshape(-1, 2)
    accuracy = float(np.mean(said == np.array([True, False])))
    assert accuracy >= 0.6  # 160 answers, scene-likely absent objects; chance is 0.5


def test_sampled_captions_follow_their_seed(captioner: Captioner, drawn: list[Scene]) -> None:
    images = [one.image for one in drawn[:4]]
    first = captioner.caption(images, sampled=True, seed=3)
    assert captioner.caption(images, sampled=True, seed=3) == first
    assert captioner.caption(images, sampled=True, seed=4) != first
    with pytest.raises(ValueError, match="temperature must be > 0"):
        captioner.caption(images, sampled=True, temperature=0)


def test_true_captions_are_less_surprising_than_false_ones(
    captioner: Captioner, drawn: list[Scene]
) -> None:
    """Teacher forcing, as the perplexity endpoint does it: own image against another's."""
    own, other = [], []
    for one, stranger in zip(drawn[:20], drawn[20:40], strict=True):
        text = faithful(one.layout, stream("validation", one.index, purpose="caption"))
        assert mentioned(text)
        own.append(_surprise(captioner, one.image, text))
        other.append(_surprise(captioner, stranger.image, text))
    assert np.mean(np.array(own) < np.array(other)) >= 0.9


@torch.inference_mode()
def _surprise(captioner: Captioner, image: Image.Image, text: str) -> float:
    prompt = f"USER: <image>\nDescribe the image. ASSISTANT: {text}"
    inputs = captioner.processor(images=[image], text=[prompt], return_tensors="pt")
    labels = inputs["input_ids"].clone()
    length = len(captioner.processor.tokenizer(f" {text}", add_special_tokens=False).input_ids)
    labels[:, :-length] = -100
    return float(captioner.model(**inputs, labels=labels).loss)
