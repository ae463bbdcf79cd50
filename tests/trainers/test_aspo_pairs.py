"""SeVa's noise and pairs: the published coefficients, determinism, filters, going on."""

import json

import pytest
import torch

from sightline_trainers import seva
from sightline_trainers.checkpoint import Process
from sightline_trainers.data import DataConfig, load_image, read_rows
from sightline_trainers.noise import coefficients, noised
from sightline_trainers.offsets import decode_with_offsets
from sightline_trainers.policy import PolicyConfig, load_policy
from sightline_trainers.seva import PairConfig


@pytest.mark.parametrize(
    ("step", "signal", "noise"),
    [
        (0, 0.999989, 0.004726),
        (500, 0.863017, 0.505175),
        (800, 0.467014, 0.884250),
        (999, 0.285042, 0.958515),
    ],
)
def test_the_noise_is_that_of_seva(step, signal, noise):
    assert coefficients(step) == pytest.approx((signal, noise), abs=1e-6)


def test_the_coefficients_follow_from_a_slow_product():
    kept = 1.0
    for t in range(251):
        sigmoid = 1 / (1 + 2.718281828459045 ** -(-6 + 12 * t / 999))
        kept *= 1 - (sigmoid * (0.005 - 1e-5) + 1e-5)
    assert coefficients(250)[0] ** 2 == pytest.approx(kept, rel=1e-9)


def test_a_noised_image_keeps_its_share_of_the_signal_and_its_type():
    pixels = torch.full((1, 3, 64, 64), 2.0, dtype=torch.bfloat16)
    found = noised(pixels, step=500, seed=1)
    assert (found.dtype, found.shape) == (torch.bfloat16, pixels.shape)
    rest = found.float() - 0.863017 * 2.0
    assert abs(rest.mean().item()) < 0.02
    assert rest.std().item() == pytest.approx(0.505, abs=0.02)
    assert torch.equal(found, noised(pixels, step=500, seed=1))
    assert not torch.equal(found, noised(pixels, step=500, seed=2))


def test_the_seed_of_the_noise_belongs_to_the_image_the_step_and_the_run():
    seeds = {
        seva.noise_seed(image, step, seed)
        for image in (b"one", b"other")
        for step in (500, 800)
        for seed in (0, 1)
    }
    assert len(seeds) == 8
    assert seva.noise_seed(b"one", 500, 0) in seeds


@pytest.mark.parametrize(
    ("chosen", "rejected", "fate"),
    [
        ("A cat.", "A dog.", "kept"),
        ("A cat.\nA dog.", " a  cat. A dog. ", "equal"),
        ("", "A dog.", "empty"),
        ("A cat.", " \n", "empty"),
        (" ", "", "empty"),
    ],
)
def test_only_different_answers_make_a_pair(chosen, rejected, fate):
    assert seva.fate_of(chosen, rejected) == fate


def test_a_step_that_is_none_is_refused():
    with pytest.raises(ValueError, match=r"pairs.noise_step is 1000: give 0 to 999"):
        PairConfig(noise_step=1000)


@pytest.fixture(scope="module")
def policy(tiny_llava):
    return load_policy(PolicyConfig(model=str(tiny_llava), lora_rank=4, lora_alpha=8), seed=0)


@pytest.fixture
def rows(pictures):
    return read_rows(DataConfig(path=pictures))


CONFIG = PairConfig(noise_step=900, max_new_tokens=10, generation_batch=3)


ALONE = Process(0, 1)


def build(policy, rows, folder, *, config=CONFIG, process=ALONE, barrier=lambda: None):
    return seva.build_pairs(
        policy, rows, config, seed=0, folder=folder, process=process, barrier=barrier
    )


@pytest.fixture(scope="module")
def built(policy, pictures, tmp_path_factory):
    folder = tmp_path_factory.mktemp("built")
    return build(policy, read_rows(DataConfig(path=pictures)), folder), folder


def test_both_answers_are_greedy_and_only_the_rejected_sees_noise(policy, rows, built):
    pairs, _ = built
    pair, row = pairs[4], rows[4]
    image, data = load_image(row)
    prompt = policy.prompts.encode(image, row.prompt)
    seed = seva.noise_seed(data, 900, 0)
    assert (pair.row, pair.origin, pair.noise_step, pair.noise_seed) == (4, row.origin, 900, seed)
    noisy = {**prompt, "pixel_values": noised(prompt["pixel_values"], step=900, seed=seed)}
    for inputs, ids in ((prompt, pair.chosen_ids), (noisy, pair.rejected_ids)):
        assert greedy(policy, inputs, len(ids)) == list(ids)
    assert decode_with_offsets(policy.prompts.decode, pair.chosen_ids) == (
        pair.chosen,
        pair.chosen_offsets,
    )
    assert policy.prompts.decode(list(pair.rejected_ids)) == pair.rejected
    assert {each.fate for each in pairs} >= {"kept"}


@torch.no_grad()
def greedy(policy, inputs, length):
    """One token after the other, without a cache."""
    ids = torch.zeros(1, 0, dtype=torch.int64)
    for _ in range(length):
        logits, _ = policy(
            inputs, torch.cat([ids, ids.new_zeros(1, 1)], 1), torch.ones(1, ids.shape[1] + 1)
        )
        scores = logits[:, -1]
        scores[:, policy.model.config.image_token_id] = -torch.inf
        ids = torch.cat([ids, scores.argmax(-1, keepdim=True)], 1)
    return ids[0].tolist()


def test_the_same_run_makes_the_same_pairs(policy, rows, built, tmp_path):
    assert build(policy, rows, tmp_path) == built[0]


def test_a_broken_off_run_goes_on_and_ends_with_the_same_pairs(
    policy, rows, built, tmp_path, monkeypatch
):
    pairs, folder = built
    whole = (folder / "pairs-0.jsonl").read_bytes()
    lines = whole.splitlines(keepends=True)
    # killed in the third batch: its second line is broken off
    (tmp_path / "pairs-0.jsonl").write_bytes(b"".join(lines[:7]) + lines[7][:40])
    answered = []
    original = seva.answer

    def recorded(policy, rows, config, *, seed):
        answered.extend(number for number, _ in rows)
        return original(policy, rows, config, seed=seed)

    monkeypatch.setattr(seva, "answer", recorded)
    assert build(policy, rows, tmp_path) == pairs
    assert answered == [6, 7]
    content = (tmp_path / "pairs-0.jsonl").read_bytes()
    assert [json.loads(line)["row"] for line in content.splitlines()] == [*range(7), 6, 7]
    answered.clear()
    assert build(policy, rows, tmp_path) == pairs
    assert not answered


def test_a_file_cut_inside_a_character_is_read_up_to_its_last_whole_line(built, tmp_path):
    pair = built[0][0]
    kept = seva.PairFolder(tmp_path, 0)
    kept.add([pair])
    with (tmp_path / "pairs-0.jsonl").open("ab") as file:
        file.write('{"chosen": "\U0001f600'.encode()[:-1])
    assert kept.read() == {0: pair}
    kept.mend()
    kept.add([pair])
    assert kept.read() == {0: pair}


def test_two_processes_make_the_pairs_of_one(policy, rows, built, tmp_path):
    def the_first_process_finishes():
        build(policy, rows, tmp_path, process=Process(0, 2))

    second = Process(1, 2)
    found = build(policy, rows, tmp_path, process=second, barrier=the_first_process_finishes)
    assert found == built[0]
    written = {
        path.name: [json.loads(line)["row"] for line in path.read_text().splitlines()]
        for path in tmp_path.glob("pairs-*.jsonl")
    }
    assert written == {"pairs-0.jsonl": [0, 1, 2, 6, 7], "pairs-1.jsonl": [3, 4, 5]}


def test_a_step_without_noise_gives_no_pairs_and_says_so(policy, rows, tmp_path):
    faint = PairConfig(noise_step=0, max_new_tokens=3, generation_batch=8)
    with pytest.raises(ValueError, match=r"none of 2 rows .*'equal': 2.*raise pairs.noise_step"):
        build(policy, rows[:2], tmp_path, config=faint)


def test_what_decides_the_pairs_names_their_folder(pictures, tiny_llava):
    policy, data = PolicyConfig(model=str(tiny_llava)), DataConfig(path=pictures)
    base = seva.digest(CONFIG, policy, data, seed=0)
    assert base == seva.digest(
        PairConfig(noise_step=900, max_new_tokens=10, generation_batch=3, folder=pictures.parent),
        PolicyConfig(model=str(tiny_llava), lora_rank=2),
        data,
        seed=0,
    )
    others = {
        seva.digest(PairConfig(noise_step=500), policy, data, seed=0),
        seva.digest(CONFIG, PolicyConfig(model=str(tiny_llava), dtype="bfloat16"), data, seed=0),
        seva.digest(CONFIG, policy, DataConfig(path=pictures, limit=3), seed=0),
        seva.digest(CONFIG, policy, data, seed=1),
    }
    assert len(others | {base}) == 5
