"""Pickled weights: refused, or read by torch's restricted reader, which runs nothing in them."""

import shutil
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from sightline_service.models import original_dino
from sightline_service.models.checkpoint import check_torch_file, snapshot
from sightline_service.models.load import ModelLoadError, load_similarity, preflight
from sightline_service.models.reference import ModelReference
from sightline_service.models.weights_lock import WeightsFolder


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.mkdir, (Path(self.path),)


def load(reference, *, allow_pickle):
    return load_similarity(reference, device="cpu", dtype="float32", allow_pickle=allow_pickle)


def pickled(source, folder, name):
    """A copy of a sound folder whose weights are a pickle."""
    shutil.copytree(source, folder)
    (weights,) = folder.glob("*.safetensors")
    torch.save(load_file(weights), folder / name)
    weights.unlink()
    return folder


@pytest.fixture(params=["transformers", "open_clip"])
def pair(request, clip_folder, open_clip_folder, tmp_path):
    """References of the same model in safetensors and in a pickle, and the pickle."""
    sources = {
        "transformers": (clip_folder, "hf:", "pytorch_model.bin"),
        "open_clip": (open_clip_folder, "open_clip:local-dir:", "open_clip_pytorch_model.bin"),
    }
    source, prefix, name = sources[request.param]
    folder = pickled(source, tmp_path / "pickled", name)
    return f"{prefix}{source}", f"{prefix}{folder}", folder / name


def test_an_allowed_pickle_gives_the_vectors_of_the_safetensors(pair, mixed_images):
    sound, other, _ = pair
    vectors = []
    for reference in (sound, other):
        model = load(reference, allow_pickle=True)
        vectors.append(model.embed_images([model.prepare_image(mixed_images[0])]))
    np.testing.assert_array_equal(*vectors)
    assert load(other, allow_pickle=True).info.revision.startswith("sha256:")


def test_by_default_a_pickle_is_refused_with_every_way_out(pair):
    _, reference, file = pair
    with pytest.raises(ModelLoadError) as caught:
        load(reference, allow_pickle=False)
    for words in (str(file), "convert it to safetensors", "--allow-pickle"):
        assert words in str(caught.value)
    with pytest.raises(ModelLoadError) as early:
        preflight("similarity", reference)
    assert str(early.value) == str(caught.value)


def test_even_an_allowed_pickle_runs_nothing(pair, tmp_path):
    _, reference, file = pair
    torch.save({"weight": Trap(tmp_path / "sprung")}, file)
    preflight("similarity", reference, allow_pickle=True)
    with pytest.raises(ModelLoadError, match="cannot be loaded"):
        load(reference, allow_pickle=True)
    assert not (tmp_path / "sprung").exists()
    torch.load(file, weights_only=False)
    assert (tmp_path / "sprung").exists(), "the trap must work"


def test_a_checkpoint_of_the_original_grounding_dino_runs_nothing_either(tmp_path):
    """It needs no flag, as there is no other format: the reader is the restricted one."""
    file = tmp_path / "weights.pth"
    torch.save({"model": Trap(tmp_path / "sprung")}, file)
    with pytest.raises(Exception, match="Weights only load failed"):
        original_dino._load_weights(None, file)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("kept", [0, 4, 0.5, -1])
def test_a_pickle_that_was_cut_short_is_named_unread(kept, pair):
    _, reference, file = pair
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * kept) if isinstance(kept, float) else kept])
    with pytest.raises(ModelLoadError, match="is cut short or not of torch") as caught:
        preflight("similarity", reference, allow_pickle=True)
    assert str(file) in str(caught.value)


def test_the_format_before_zip_archives_is_known(tmp_path):
    torch.save({"a": torch.ones(1)}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    check_torch_file(tmp_path / "old.pth")


def test_a_pickle_under_a_strange_name_is_not_read(pair):
    _, reference, file = pair
    file.rename(file.with_name("mine.pt"))
    with pytest.raises(ModelLoadError, match="under a name that is not read"):
        load(reference, allow_pickle=True)


@pytest.mark.parametrize(
    ("has_safetensors", "allowed", "expected"),
    [(False, False, [False]), (False, True, [False, True]), (True, True, [False])],
)
def test_pickles_are_fetched_only_where_they_are_allowed_and_needed(
    has_safetensors, allowed, expected, tmp_path, monkeypatch
):
    asked = []

    def fetch(repository, *, allow_patterns, **_):
        asked.append(any(pattern.endswith(".bin") for pattern in allow_patterns))
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    if has_safetensors:
        (tmp_path / "model.safetensors").touch()
    snapshot(replace(ModelReference.parse("hf:org/name"), allow_pickle=allowed))
    assert asked == expected


def test_an_allowed_pickle_can_be_locked(pair, tmp_path):
    _, reference, file = pair
    with pytest.raises(ModelLoadError, match="is a pickle"):
        WeightsFolder(tmp_path).fetch([reference])
    [model] = WeightsFolder(tmp_path).fetch([reference], allow_pickle=True).models
    assert file.name in model.files
    assert WeightsFolder(tmp_path).verify().models == (model,)
