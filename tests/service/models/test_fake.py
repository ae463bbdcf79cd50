"""The fakes: deterministic, and as troublesome as they are told to be."""

import subprocess
import sys

import numpy as np
import PIL.Image
import pytest

from sightline_service.models.fake import (
    FakeDetector,
    FakeModelError,
    FakePerplexity,
    FakeSimilarity,
    Trouble,
)
from sightline_service.models.protocols import (
    Detector,
    OutOfDeviceMemoryError,
    PerplexityModel,
    SimilarityModel,
)

RED = PIL.Image.new("RGB", (6, 4), "red")
BLUE = PIL.Image.new("RGB", (6, 4), "blue")


def test_fakes_fit_the_protocols():
    similarity: SimilarityModel = FakeSimilarity()
    detector: Detector = FakeDetector()
    perplexity: PerplexityModel = FakePerplexity()
    assert {similarity.info.id, detector.info.id, perplexity.info.id} == {"fake"}


def test_embeddings_are_unit_vectors_that_depend_on_the_input_alone():
    one, other = FakeSimilarity(), FakeSimilarity()
    batch = [one.prepare_image(image) for image in (RED, BLUE, RED)]
    rows = one.embed_images(batch)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(rows[0], rows[2])
    assert np.abs(rows[0] - rows[1]).max() > 0.01
    np.testing.assert_array_equal(rows[1], other.embed_images([other.prepare_image(BLUE)])[0])
    assert one.batch_sizes == [3]


def test_a_long_text_is_cut_and_reported():
    model = FakeSimilarity(context_words=3)
    assert not model.prepare_text("a b c").truncated
    cut = model.prepare_text("a b c d")
    assert cut.truncated
    kept = model.embed_texts([cut, model.prepare_text("a b c")])
    np.testing.assert_array_equal(kept[0], kept[1])


def test_phrases_are_chunked_and_each_is_found_once():
    model = FakeDetector(phrases_per_prompt=2)
    prepared = model.prepare(RED, ("dog", "cat", "bus"), text_threshold=0.25)
    found = [one for batch in prepared for one in model.detect([batch])[0]]
    assert sorted(one.phrase_index for one in found) == [0, 1, 2]
    for one in found:
        assert 0 <= one.box[0] < one.box[2] <= 1
        assert 0 <= one.box[1] < one.box[3] <= 1
        assert 0.05 <= one.score <= 1


def test_perplexity_depends_on_image_prompt_and_prefix():
    model = FakePerplexity()
    text = "A dog  sits.\n"

    def score(image, prompt, answer=text):
        return model.score([model.prepare(image, prompt, answer)])[0]

    scores = score(RED, "what?")
    assert scores.offsets == ((0, 1), (1, 5), (5, 12), (12, 13))
    assert (scores.log_probs < 0).all()
    assert score(BLUE, "what?").log_probs[0] != scores.log_probs[0]
    assert score(RED, None).log_probs[0] != scores.log_probs[0]
    assert score(RED, "what?", "A dog").log_probs.tolist() == scores.log_probs[:2].tolist()


def test_trouble_strikes_the_batch():
    model = FakeSimilarity(Trouble(fail_on="poison", memory_items=2))
    fine, bad = model.prepare_text("fine"), model.prepare_text("a poison apple")
    assert model.embed_texts([fine, fine]).shape == (2, 16)
    with pytest.raises(FakeModelError, match="poison"):
        model.embed_texts([fine, bad])
    with pytest.raises(OutOfDeviceMemoryError, match="room for 2"):
        model.embed_texts([fine, fine, fine])


def test_loading_a_fake_imports_no_torch():
    program = (
        "import sys; from sightline_service.models.load import load_similarity; "
        "load_similarity('fake', device='auto', dtype='auto'); "
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
