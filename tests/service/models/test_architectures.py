"""What is read from transformers' sources, against transformers itself."""

import json
import subprocess
import sys

import pytest
import transformers
from transformers.models.auto import modeling_auto

from sightline_service.models import architectures
from sightline_service.models.hf_similarity import _embeds_both

_BAD = """
import sys
from sightline_service.loading import ModelLoader
from sightline_service.settings import Settings
try:
    ModelLoader(Settings(**{settings}))
except ValueError as error:
    print(error)
print(*sorted({{"torch", "transformers", "open_clip"}} & set(sys.modules)))
"""


def test_every_architecture_of_the_library_is_known_and_no_other():
    assert all(map(architectures._is_known, transformers.CONFIG_MAPPING))
    assert not architectures._is_known("odd")


@pytest.mark.parametrize("table", architectures._WRITES_TEXT)
def test_tables_are_read_as_they_are(table):
    assert architectures._keys(table) == getattr(modeling_auto, table).keys()
    assert architectures._keys("NO_SUCH_TABLE") == frozenset()


def test_every_detector_of_the_library_is_served():
    known = modeling_auto.MODEL_FOR_ZERO_SHOT_OBJECT_DETECTION_MAPPING_NAMES
    assert known.keys() == architectures.DETECTORS


@pytest.mark.parametrize(
    "model_type", ["clip", "siglip", "siglip2", "align", "owlvit", "llava", "qwen2_5_vl", "llama"]
)
def test_what_embeds_images_and_texts_is_told_without_the_library(model_type):
    config = transformers.CONFIG_MAPPING[model_type]()
    assert architectures._fits("similarity", model_type) == _embeds_both(config)


def test_a_fault_is_told_before_any_library_is_imported(tmp_path):
    """In a process of its own: the imports alone would take seconds."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "odd"}))
    settings = {"similarity": f"hf:{tmp_path}", "detector": "none", "perplexity": "none"}
    told = subprocess.run(
        [sys.executable, "-c", _BAD.format(settings=settings)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert "names the architecture 'odd'" in told[0]
    assert told[1:] == [""]
