"""Each family's tiny model, loaded as a policy, and what to ask it."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

from sightline_trainers.policy import PolicyConfig, load_policy


def beside(name):
    """A module of this folder, which is no package."""
    spec = importlib.util.spec_from_file_location(
        f"policy_{name}", Path(__file__).with_name(f"{name}.py")
    )
    module = sys.modules[f"policy_{name}"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MODELS, MATRIX = beside("models"), beside("matrix")
QUESTIONS = ["What?", "Describe the image.", "What is on the table, and where?"]
SIZES = [(40, 30), (30, 80), (90, 25)]


IGNORED = (
    # peft asks for an attribute that transformers has renamed
    "ignore:`is_gradient_checkpointing`:FutureWarning",
    # transformers' PaliGemma processor gives tensors to numpy
    "ignore:__array__ implementation:DeprecationWarning",
)


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            for line in IGNORED:
                item.add_marker(pytest.mark.filterwarnings(line))


def pytest_generate_tests(metafunc):
    if "family" in metafunc.fixturenames:
        metafunc.parametrize("family", MATRIX.FAMILIES, scope="session")


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A family's folder, written when it is first asked for."""
    written = {}

    def folder(build):
        if build not in written:
            torch.manual_seed(0)
            written[build] = tmp_path_factory.mktemp(build.__name__)
            build(written[build])
        return written[build]

    return folder


@pytest.fixture(scope="session")
def models():
    return MODELS


@pytest.fixture(scope="session")
def matrix():
    return MATRIX


@pytest.fixture(scope="session")
def folder(family, tiny):
    return tiny(getattr(MODELS, family))


@pytest.fixture(scope="session")
def load(folder):
    def policy(**changes):
        return load_policy(
            PolicyConfig(model=str(folder), lora_rank=2, lora_alpha=4, **changes), seed=0
        ).eval()

    return policy


@pytest.fixture(scope="session")
def bend():
    """Gives an adapter an effect, as training would."""

    def bent(policy):
        torch.manual_seed(1)
        with torch.no_grad():
            for name, parameter in policy.named_parameters():
                if "lora_B" in name:
                    parameter.copy_(0.3 * torch.randn_like(parameter))
        return policy

    return bent


@pytest.fixture(scope="session")
def policy(load, bend):
    """With an adapter that has an effect; shared, so leave it as it is."""
    return bend(load())


@pytest.fixture(scope="session")
def images():
    """Three sizes: in families with tiles they have different numbers of them."""
    return [
        PIL.Image.fromarray(
            np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
        )
        for seed, (width, height) in enumerate(SIZES)
    ]


@pytest.fixture(scope="session")
def questions():
    return QUESTIONS


@pytest.fixture(scope="session")
def prompts(policy, images):
    return [policy.prompts.encode(*each) for each in zip(images, QUESTIONS, strict=True)]


@pytest.fixture(scope="session")
def pictures(tmp_path_factory, images):
    """A JSONL file of four images with questions."""
    folder = tmp_path_factory.mktemp("pictures")
    lines = []
    for number in range(4):
        images[number % 3].save(folder / f"{number}.png")
        lines.append(json.dumps({"image": f"{number}.png", "prompt": QUESTIONS[number % 2]}))
    path = folder / "prompts.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path
