"""ASPO on the paper's other architecture: pairs, segments and gradients of a tiny InstructBLIP."""

import pytest
import torch
from transformers import (
    BlipImageProcessor,
    InstructBlipConfig,
    InstructBlipForConditionalGeneration,
    InstructBlipProcessor,
    InstructBlipQFormerConfig,
    InstructBlipVisionConfig,
    LlamaConfig,
)

from sightline_trainers import seva
from sightline_trainers.data import DataConfig, load_image, read_rows
from sightline_trainers.pair_log_probs import Case, pair_log_probs
from sightline_trainers.policy import PolicyConfig, load_policy
from sightline_trainers.segments import cut_answer

SMALL = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tokenizer):
    path = tmp_path_factory.mktemp("tiny-instructblip")
    processor = InstructBlipProcessor(
        BlipImageProcessor(size={"height": 28, "width": 28}), tokenizer, tokenizer, 4
    )
    torch.manual_seed(0)
    config = InstructBlipConfig(
        vision_config=InstructBlipVisionConfig(**SMALL, image_size=28, patch_size=14).to_dict(),
        qformer_config=InstructBlipQFormerConfig(
            **SMALL, vocab_size=len(tokenizer), encoder_hidden_size=32
        ).to_dict(),
        text_config=LlamaConfig(
            **SMALL, vocab_size=len(tokenizer), num_key_value_heads=4, max_position_embeddings=512
        ).to_dict(),
        num_query_tokens=4,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )
    model = InstructBlipForConditionalGeneration(config)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(path)
    processor.save_pretrained(path)
    return path


def test_instructblip_makes_pairs_and_learns_from_them(folder, pictures):
    config = PolicyConfig(
        model=str(folder),
        lora_rank=2,
        lora_alpha=4,
        lora_targets=r".*language_model.*\.(q|k|v)_proj",
    )
    policy = load_policy(config, seed=0)
    rows = read_rows(DataConfig(path=pictures, limit=2))
    made = seva.answer(
        policy, list(enumerate(rows)), seva.PairConfig(noise_step=999, max_new_tokens=6), seed=0
    )
    cases = [
        Case(
            pair,
            policy.prompts.encode(load_image(row)[0], row.prompt),
            cut_answer(pair.chosen, pair.chosen_offsets, "token"),
        )
        for pair, row in zip(made, rows, strict=True)
    ]
    y = pair_log_probs(policy, policy, cases)
    assert y.lr_BK.abs().max() < 1e-5  # the adapter begins without effect
    for case, log_probs in zip(cases, y.logp_BK, strict=True):
        ids = torch.tensor([case.pair.chosen_ids])
        logits, _ = policy(case.prompt, ids, torch.ones_like(ids))
        logits[..., policy.model.config.image_token_id] = -torch.inf
        assert torch.equal(logits.argmax(-1), ids)  # training sees what generation saw
        best = logits.log_softmax(-1).amax(-1)[0]
        assert torch.allclose(log_probs[: ids.shape[1]], best, atol=0.02)
    (y.lr_BK.sum() - y.rejected_lr_B.sum() * 2).backward()
    moved = [p.grad.abs().sum() for name, p in policy.named_parameters() if "lora_B" in name]
    assert len(moved) == 6
    assert all(each > 0 for each in moved)
