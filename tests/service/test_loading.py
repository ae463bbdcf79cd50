"""What loading models does to the process: threads for small ones, and the garbage collector."""

import gc

import pytest
import torch

from sightline_service.loading import ModelLoader
from sightline_service.models.fake import FakePerplexity, FakeSimilarity
from sightline_service.settings import Settings

BIG = 100_000_000


@pytest.fixture
def two_threads(monkeypatch):
    """The process as the operator left it, with a second thread to lose; restored afterwards."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    threads, thresholds = torch.get_num_threads(), gc.get_threshold()
    torch.set_num_threads(2)
    yield monkeypatch
    torch.set_num_threads(threads)
    gc.unfreeze()
    gc.set_threshold(*thresholds)


def load(monkeypatch, similarity=0, perplexity=0, **settings):
    models = {"similarity": FakeSimilarity(), "perplexity": FakePerplexity()}
    models["similarity"].n_weights = similarity
    models["perplexity"].n_weights = perplexity
    for role, model in models.items():
        monkeypatch.setattr(
            f"sightline_service.loading.load_{role}", lambda *_, model=model, **__: model
        )
    ModelLoader(
        Settings(similarity="fake", detector="none", perplexity="fake", profile="none", **settings)
    )(lambda role, state: None)


@pytest.mark.parametrize(
    ("similarity", "perplexity", "settings", "threads"),
    [
        (4_000_000, 9_000_000, {}, 1),
        (4_000_000, BIG, {}, 2),
        (BIG, 0, {}, 2),
        (0, 0, {}, 2),
        (4_000_000, 0, {"torch_threads": 3}, 3),
    ],
    ids=["all small", "one large", "large and fake", "all fake", "set"],
)
def test_only_models_that_are_all_small_compute_on_one_thread(
    two_threads, similarity, perplexity, settings, threads
):
    load(two_threads, similarity, perplexity, **settings)
    assert torch.get_num_threads() == threads


def test_threads_that_the_environment_names_are_left(two_threads):
    two_threads.setenv("OMP_NUM_THREADS", "2")
    load(two_threads, 4_000_000)
    assert torch.get_num_threads() == 2


def test_what_is_loaded_is_out_of_the_garbage_collectors_rounds(two_threads):
    gc.unfreeze()
    load(two_threads)
    assert gc.get_freeze_count() > 10_000
    assert gc.get_threshold()[0] == 10_000
