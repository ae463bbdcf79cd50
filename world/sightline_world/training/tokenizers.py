"""The two small tokenizers, trained on the world's own sentences.

Knows tokenizers and transformers; no models.

Both are byte-level, so that any text has an encoding and nothing is unknown.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
from tokenizers import (
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import CLIPTokenizer, PreTrainedTokenizerFast

from sightline_world.captions import DESCRIBE, faithful, question
from sightline_world.categories import CATEGORIES, SCENE_TYPES
from sightline_world.scenes import Layout, SceneObject
from sightline_world.splits import stream

CHAT_TEMPLATE = (  # LLaVA-1.5's, with an end token after each answer
    "{% for message in messages %}"
    "{{ message['role'].upper() + ': ' }}"
    "{% if message['content'] is string %}"
    "{% set parts = [{'type': 'text', 'text': message['content']}] %}"
    "{% else %}{% set parts = message['content'] %}{% endif %}"
    "{% for part in parts if part['type'] == 'image' %}{{ '<image>\n' }}{% endfor %}"
    "{% if message['role'] == 'assistant' %}"
    "{% for part in parts if part['type'] == 'text' %}"
    "{% generation %}{{ part['text'] + eos_token }}{% endgeneration %}{% endfor %}"
    "{% else %}"
    "{% for part in parts if part['type'] == 'text' %}{{ part['text'] + ' ' }}{% endfor %}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
_WORDS = Regex(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")


def sentences(count: int = 4000) -> Iterator[str]:
    """Captions, questions, names and plurals: what the tokenizers should spend few tokens on."""
    for index in range(count):
        rng = stream("train", index, purpose="caption", seed=1)
        kind = SCENE_TYPES[index % len(SCENE_TYPES)]
        corners = rng.integers(0, 130, (4, 2))
        picked = rng.choice(len(CATEGORIES), 4, replace=False)
        yield faithful(_layout(kind.name, picked, corners), rng)
    for category in CATEGORIES:
        for _ in range(20):
            yield f"USER: {DESCRIBE} ASSISTANT: There are {category.plural}. {category.noun_phrase}"
            yield f"USER: {question(category.name)} ASSISTANT: Yes. USER: ASSISTANT: No."


def clip_tokenizer(*, merges: int = 900) -> CLIPTokenizer:
    """A lower-casing tokenizer in CLIP's format.

    End of text has the highest id, as CLIP's pooling needs.
    """
    trained = Tokenizer(models.BPE(end_of_word_suffix="</w>", continuing_subword_prefix=""))
    trained.normalizer = normalizers.Lowercase()
    trained.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(_WORDS, behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=2 * len(alphabet) + merges,
        end_of_word_suffix="</w>",
        initial_alphabet=alphabet,
        show_progress=False,
    )
    trained.train_from_iterator(sentences(), trainer)
    pairs = _merges(trained)
    tokens = [*alphabet, *(f"{letter}</w>" for letter in alphabet)]
    tokens += [left + right for left, right in pairs]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    merged: Any = pairs  # annotated as strings, read as pairs
    return CLIPTokenizer(vocab=vocabulary, merges=merged)


def chat_tokenizer(*, vocabulary: int = 1024) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with LLaVA's special tokens and chat template."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=["<pad>", "<s>", "</s>", "<image>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(sentences(), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
    )
    fast: Any = PreTrainedTokenizerFast  # its constructor is untyped
    made: PreTrainedTokenizerFast = fast(  # nosec B106 # names of tokens
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        image_token="<image>",
        padding_side="left",
        chat_template=CHAT_TEMPLATE,
        model_max_length=512,
    )
    return made


def _merges(tokenizer: Tokenizer) -> list[tuple[str, str]]:
    listed = json.loads(tokenizer.to_str())["model"]["merges"]
    return [(left, right) for left, right in listed]


def _layout(kind: str, picked: np.ndarray, corners: np.ndarray) -> Layout:
    objects = (
        SceneObject(CATEGORIES[int(i)].name, (int(x), int(y), int(x) + 60, int(y) + 60))
        for i, (x, y) in zip(picked, corners, strict=True)
    )
    return Layout(kind, tuple(objects))
