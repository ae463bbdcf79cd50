from pathlib import Path

import pytest

from sightline_trainers import fisao
from sightline_trainers.configuration import describe, plain, read_config

RECIPES = Path(fisao.__file__).parent / "recipes"


def write(tmp_path, text, name="run.yaml"):
    path = tmp_path / name
    path.write_text(text)
    return path


WORLD = "output_dir: out\ndata: {format: world, limit: 8}\n"


def test_flags_win_over_the_file_and_reach_into_sections(tmp_path):
    path = write(tmp_path, WORLD + "learning_rate: 1e-4\n")
    flags = ["--data.limit", "16", "--policy.lora-rank=8", "--clip", "0.1", "--merge", "true"]
    config = read_config(fisao.Config, path, flags)
    assert (config.learning_rate, config.data.limit, config.policy.lora_rank) == (1e-4, 16, 8)
    assert (config.clip, config.merge, config.output_dir) == (0.1, True, Path("out"))


def test_toml_says_the_same_as_yaml(tmp_path):
    toml = 'output_dir = "out"\n[data]\nformat = "world"\nlimit = 8\n'
    ours = read_config(fisao.Config, write(tmp_path, toml, "run.toml"), [])
    assert ours == read_config(fisao.Config, write(tmp_path, WORLD), [])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (WORLD + "learning_rat: 1\n", "unknown field learning_rat: did you mean learning_rate"),
        (
            "output_dir: out\ndata: {format: world, limit: 8, spilt: a}\n",
            "unknown field data.spilt",
        ),
        ("data: {format: world, limit: 8}\n", "output_dir is missing"),
        (WORLD + "learning_rate: fast\n", "learning_rate is 'fast': give a number"),
        (WORLD + "epochs: 1.5\n", "epochs is 1.5: give a whole number"),
        (WORLD + "epochs: true\n", "epochs is True: give a whole number"),
        (WORLD + "merge: maybe\n", "merge is 'maybe': give true or false"),
        (WORLD + "kl_scope: some\n", "kl_scope is 'some': choose one of paper, all"),
        (WORLD + "policy: big\n", "policy is 'big': give a section"),
        (WORLD + "clip: 0\n", "clip is 0"),
        (WORLD + "top_p: 1.5\n", "top_p is 1.5: give more than 0 and at most 1"),
        ("- a\n", "not a mapping"),
        ("a: [\n", "run.yaml"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path, text, said):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is looked at below
        read_config(fisao.Config, write(tmp_path, text), [])
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("flags", "said"),
    [(["--clip"], "no value"), (["clip", "1"], "no flag"), (["--seed.x", "1"], "no section")],
)
def test_flags_that_say_nothing_are_refused(tmp_path, flags, said):
    path = write(tmp_path, WORLD + "seed: 1\n")
    with pytest.raises(ValueError, match=said):
        read_config(fisao.Config, path, flags)


def test_lists_come_from_commas_and_nothing_from_none(tmp_path):
    flags = ["--reward.entities", "dog,cat", "--max_steps", "none"]
    config = read_config(fisao.Config, write(tmp_path, WORLD), flags)
    assert config.reward.entities == ("dog", "cat")
    assert config.max_steps is None


def test_every_field_is_listed_with_its_default_and_its_text():
    listed = "\n".join(describe(fisao.Config))
    assert "--kl_coefficient (default: 0.2)" in listed
    assert "xi of Eq. 12." in listed
    assert "--output_dir (required)" in listed
    assert "--policy.lora_rank (default: 128)" in listed


@pytest.mark.parametrize("recipe", sorted(RECIPES.glob("*_fisao.yaml")), ids=lambda path: path.name)
def test_every_recipe_is_a_configuration(recipe):
    config = read_config(fisao.Config, recipe, [])
    assert plain(config)["output_dir"].startswith("runs/")


def test_the_recipe_for_llava_has_the_papers_numbers():
    config = read_config(fisao.Config, RECIPES / "llava15_7b_fisao.yaml", [])
    assert (config.policy.lora_rank, config.policy.lora_alpha) == (128, 256)
    assert (config.learning_rate, config.kl_coefficient, config.ppo_epochs) == (5e-7, 0.2, 4)
    assert (config.data.limit, config.epochs, config.kl_scope) == (8000, 1, "paper")
