"""Which family is held to which check. Knows names alone; run it to print docs/policies.md's table.

`FAMILIES` is the rows, `CHECKS` the columns; every cell is a test, run on every family.
"""

import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class Family:
    """A row.

    Attributes:
        stands_for: the repository whose layout the tiny one has.
        prompt: what the model reads for "What?"; the tokens of one tile stand as one.
    """

    stands_for: str
    prompt: str


VICUNA = "<s>USER: <image>\nWhat? ASSISTANT:"
QWEN = (
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
    "<|vision_start|><|image_pad|><|vision_end|>What?<|im_end|>\n<|im_start|>assistant\n"
)
IDEFICS = (
    "<|begin_of_text|>User:<fake_token_around_image><row_1_col_1><image>"
    "<fake_token_around_image><row_1_col_2><image>\n"
    "<fake_token_around_image><row_2_col_1><image>"
    "<fake_token_around_image><row_2_col_2><image>\n\n"
    "<fake_token_around_image><global-img><image><fake_token_around_image>"
    "What?<end_of_utterance>\nAssistant:"
)
FAMILIES = {
    "llava": Family("llava-hf/llava-1.5-7b-hf", VICUNA),
    "llava_next_vicuna": Family("llava-hf/llava-v1.6-vicuna-7b-hf", VICUNA),
    "llava_next_mistral": Family(
        "llava-hf/llava-v1.6-mistral-7b-hf", "<s>[INST] <image>\nWhat? [/INST]"
    ),
    "llava_onevision": Family(
        "llava-hf/llava-onevision-qwen2-7b-ov-hf",
        "<|im_start|>user <image>\nWhat?<|im_end|><|im_start|>assistant\n",
    ),
    "instructblip": Family("Salesforce/instructblip-vicuna-7b", "<image></s>What?"),
    "qwen2_vl": Family("Qwen/Qwen2-VL-2B-Instruct", QWEN),
    "qwen2_5_vl": Family("Qwen/Qwen2.5-VL-7B-Instruct", QWEN),
    "internvl": Family(
        "OpenGVLab/InternVL3-8B-hf",
        "<|im_start|>user\n<img><IMG_CONTEXT></img>\nWhat?<|im_end|>\n<|im_start|>assistant\n",
    ),
    "idefics3": Family("HuggingFaceM4/Idefics3-8B-Llama3", IDEFICS),
    "paligemma": Family("google/paligemma-3b-mix-224", "<image><bos>What?\n"),
}
CHECKS = {
    "prompt": "test_a_prompt_is_that_of_the_librarys_own_path",
    "scores": "test_teacher_forcing_gives_generations_own_log_probs",
    "batches": "test_a_row_scores_the_same_alone_and_among_longer_ones",
    "image tokens": "test_tokens_that_stand_for_images_are_never_sampled",
    "LoRA": "test_only_the_language_models_linear_maps_are_adapted",
    "four trainers": "test_a_run_takes_a_step_and_the_adapter_moves",
    "export": "test_an_adapter_and_a_merged_model_load_with_the_plain_libraries",
    "/perplexity": "test_prompts_and_log_probs_are_those_of_the_policy",
}
TEXT_ONLY = "a causal language model, as meta-llama/Llama-3.2-1B"


def table() -> str:
    """The matrix in Markdown; a language model without eyes is served and not trained."""
    rows = [["family", *CHECKS], ["---"] * (1 + len(CHECKS))]
    rows += [[f"`{family.stands_for}`", *["yes"] * len(CHECKS)] for family in FAMILIES.values()]
    rows.append([TEXT_ONLY, *["refused"] * (len(CHECKS) - 1), "yes"])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


if __name__ == "__main__":
    sys.stdout.write(table())
