"""The captioner of the benchmark that is bound by arithmetic."""

import PIL.Image
import pytest

from sightline_bench.captioner import write_captioner
from sightline_service.models.load import load_perplexity


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    return write_captioner(tmp_path_factory.mktemp("captioner"))


def test_it_reads_as_the_worlds_captioner_does_and_sees_an_image_in_49_tokens(reference):
    image = PIL.Image.linear_gradient("L").resize((336, 336)).convert("RGB")
    ours, worlds = (
        load_perplexity(name, device="cpu", dtype="float32") for name in (reference, "world")
    )
    mine, theirs = (
        model.prepare(image, "Describe the image.", "A red ball.").data for model in (ours, worlds)
    )
    assert mine.answer == theirs.answer
    without_image = [id for id in theirs.ids if theirs.ids.count(id) != 64]
    assert [id for id in mine.ids if mine.ids.count(id) != 49] == without_image
    assert len(mine.ids) - len(without_image) == 49
    [scores] = ours.score([ours.prepare(image, "Describe the image.", "A red ball.")])
    assert len(scores.log_probs) == len(mine.answer)
    assert (scores.log_probs < 0).all()


def test_it_is_made_once(reference, tmp_path):
    folder = tmp_path / "there"
    folder.mkdir()
    (folder / "processor_config.json").write_text("kept")
    assert write_captioner(folder) == f"hf:{folder}"
    assert (folder / "processor_config.json").read_text() == "kept"
