"""CSR's loss against a slow reference and against TRL's; its learning rate by hand."""

import math

import numpy as np
import PIL.Image
import pytest
import torch

from sightline_trainers.csr import dpo_loss
from sightline_trainers.learning_rate import warm_cosine
from sightline_trainers.likelihood import completion_log_probs
from sightline_trainers.policy import PolicyConfig, load_policy
from sightline_trainers.preferences import Preference, summarise
from sightline_trainers.prompts import collate


def test_the_loss_equals_a_slow_one_and_its_gradient_points_from_rejected_to_chosen():
    chosen = torch.tensor([-3.0, -5.0], requires_grad=True)
    rejected = torch.tensor([-4.0, -2.0], requires_grad=True)
    reference = torch.tensor([-3.5, -4.0]), torch.tensor([-3.0, -3.0])
    loss, metrics = dpo_loss(chosen, rejected, *reference, beta=0.5)
    margins = [0.5 * ((-3 + 3.5) - (-4 + 3)), 0.5 * ((-5 + 4) - (-2 + 3))]
    assert loss.item() == pytest.approx(sum(math.log(1 + math.exp(-m)) for m in margins))
    loss.backward()
    slopes = [0.5 / (1 + math.exp(m)) for m in margins]
    assert chosen.grad.tolist() == pytest.approx([-s for s in slopes])
    assert rejected.grad.tolist() == pytest.approx(slopes)
    assert metrics["accuracy"].item() == 1
    assert metrics["chosen_reward"].item() == pytest.approx(0.5 * (0.5 - 1.0))
    assert metrics["rejected_reward"].item() == pytest.approx(0.5 * (-1.0 + 1.0))


def test_the_loss_begins_at_log_two_per_pair():
    log_probs = -10 * torch.rand(4)
    loss, metrics = dpo_loss(log_probs, log_probs, log_probs, log_probs, beta=0.1)
    assert loss.item() == pytest.approx(4 * math.log(2))
    assert metrics["accuracy"].item() == 0


def bend(policy):
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if "lora_B" in name:
                parameter.copy_(0.3 * torch.randn_like(parameter))


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")  # TRL's own
def test_value_and_gradient_equal_trls(tiny_llava, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    trl = pytest.importorskip("trl")
    datasets = pytest.importorskip("datasets")
    policy = load_policy(
        PolicyConfig(model=str(tiny_llava), lora_rank=4, lora_alpha=8), seed=0
    ).train()
    noise = np.random.default_rng(0).integers(0, 255, (2, 28, 28, 3), dtype=np.uint8)
    pictures = [PIL.Image.fromarray(each) for each in noise]
    prompts = [policy.prompts.encode(each, "Describe the image.") for each in pictures]
    chosen, rejected = [[40, 41, 42, 2], [50, 2]], [[60, 61, 2], [70, 71, 72, 73, 74]]
    references = [torch.tensor([-20.0, -11.0]), torch.tensor([-17.0, -29.0])]

    arguments = trl.DPOConfig(
        output_dir=str(tmp_path), beta=0.3, bf16=False,
        max_length=None, report_to=[], use_cpu=True,
    )  # fmt: skip
    rows = [{"images": [pictures[0]], "prompt": "<image>a", "chosen": "b", "rejected": "c"}]
    trainer = trl.DPOTrainer(
        policy.model,
        args=arguments,
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=policy.prompts.processor,
    )
    bend(policy)
    trainer.precompute_ref_logps = True
    log_probs = completion_log_probs(policy, prompts * 2, chosen + rejected)
    loss, metrics = dpo_loss(*log_probs.chunk(2), *references, beta=0.3)
    (loss / 2).backward()
    ours = {n: p.grad.clone() for n, p in policy.named_parameters() if p.grad is not None}
    assert any(gradient.abs().sum() > 0 for gradient in ours.values())

    inputs = collate(prompts * 2, policy.prompts.pad_id, torch.device("cpu"))
    length = max(map(len, chosen + rejected))
    marks = torch.tensor([[n < len(ids) for n in range(length)] for ids in chosen + rejected])
    padded = torch.tensor([[*ids, *[0] * (length - len(ids))] for ids in chosen + rejected])
    nothing = torch.zeros_like(inputs["input_ids"])
    batch = {
        **inputs,
        "input_ids": torch.cat([inputs["input_ids"], padded], 1),
        "attention_mask": torch.cat([inputs["attention_mask"], marks.long()], 1),
        "completion_mask": torch.cat([nothing, marks.long()], 1),
        "ref_chosen_logps": references[0],
        "ref_rejected_logps": references[1],
    }
    policy.zero_grad()
    theirs = trainer.compute_loss(policy.model, batch)
    assert loss.item() / 2 == pytest.approx(theirs.item(), abs=1e-6)
    theirs.backward()
    for name, parameter in policy.named_parameters():
        if name in ours:
            assert torch.allclose(ours[name], parameter.grad, atol=1e-6), name
    (logged,) = (kind for kind in trainer._metrics.values() if kind)
    assert logged["rewards/chosen"][-1] == pytest.approx(metrics["chosen_reward"].item() / 2)
    assert logged["rewards/accuracies"][-1] == pytest.approx(metrics["accuracy"].item() / 2)


def test_the_learning_rate_rises_then_falls_as_a_cosine():
    shares = [warm_cosine(step, 10, warmup=0.15) for step in range(10)]
    assert shares[:3] == [0.5, 1.0, 1.0]
    assert shares[6] == pytest.approx(0.5)
    assert shares[2:] == sorted(shares[2:], reverse=True)
    assert 0 < shares[-1] < 0.05
    assert warm_cosine(0, 1, warmup=0.03) == 1.0
    assert warm_cosine(0, 1, warmup=0.0) == 1.0


def response(ids, **numbers):
    return {"ids": ids, "reference": -1.0, **numbers}


def test_pairs_come_in_the_order_of_rows_whichever_process_made_them():
    records = [
        {"row": 2, "dropped": None, "chosen": response([1], value=1.0, image=20.0),
         "rejected": response([2, 3], value=0.0, image=10.0)},
        {"row": 1, "dropped": "equal"},
        {"row": 0, "dropped": None, "chosen": response([4], value=0.5, image=30.0),
         "rejected": response([5], value=0.0, image=20.0)},
        {"row": 3, "dropped": "margin"},
    ]  # fmt: skip
    pairs, facts = summarise(records, 4)
    assert pairs[0] == Preference(0, (4,), (5,), -1.0, -1.0)
    assert [pair.row for pair in pairs] == [0, 2]
    assert facts == {
        "pairs": 2, "dropped": 0.5, "chosen_value": 0.75, "rejected_value": 0.0,
        "chosen_image": 25.0, "rejected_image": 15.0, "chosen_tokens": 1.0, "rejected_tokens": 1.5,
    }  # fmt: skip


def test_journals_that_lack_rows_are_refused():
    with pytest.raises(ValueError, match="hold 1 of 2 rows"):
        summarise([{"row": 1, "dropped": "equal"}], 2)
