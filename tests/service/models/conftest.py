"""Tiny random models, built by the libraries' own classes and saved in the hub's layout."""

import io
import json
import random
import re

import numpy as np
import open_clip
import PIL.Image
import pytest
import sentencepiece
import torch
import transformers
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import trainers as bpe_trainers

WORDS = re.findall(
    r"\w+",
    "a an the dog cat hot horse red bus on in under table grass sky two three small large man "
    "woman rides sits runs chest of drawers umbrella traffic light tennis racket is and with",
)


def sentences(count=400):
    source = random.Random(0)
    return [" ".join(source.choices(WORDS, k=source.randint(3, 12))) + "." for _ in range(count)]


def images(*sizes):
    source = np.random.default_rng(7)
    return [
        PIL.Image.fromarray(source.integers(0, 256, (height, width, 3), dtype=np.uint8))
        for width, height in sizes
    ]


@pytest.fixture(scope="session")
def mixed_images():
    """Ten images of mixed sizes, some alike; width x height."""
    sizes = [(64, 48), (48, 64), (64, 48), (90, 90), (31, 77), (200, 50), (48, 64), (64, 48)]
    return images(*sizes, (90, 90), (128, 96))


def bpe(vocabulary, *, special, template=None, metaspace=False):
    """A byte-level tokeniser, or one that marks spaces and falls back on bytes as Llama's does."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=metaspace))
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    if metaspace:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
        tokenizer.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
        )
        special = [*special, *(f"<0x{byte:02X}>" for byte in range(256))]
        alphabet = [chr(code) for code in range(33, 127)]
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
    trainer = bpe_trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=special,
        initial_alphabet=alphabet,
        show_progress=False,
    )
    tokenizer.train_from_iterator([*sentences(), "USER: \n ASSISTANT:"] * 2, trainer)
    if template is not None:
        pairs = [(token, tokenizer.token_to_id(token)) for token in special if token in template]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=template, special_tokens=pairs
        )
    return tokenizer


def clip_tokenizer(length=16):
    trained = Tokenizer(models.BPE(end_of_word_suffix="</w>", continuing_subword_prefix=""))
    trained.normalizer = normalizers.Lowercase()
    trained.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = bpe_trainers.BpeTrainer(
        vocab_size=700, end_of_word_suffix="</w>", initial_alphabet=alphabet, show_progress=False
    )
    trained.train_from_iterator(sentences(), trainer)
    merges = [tuple(pair) for pair in json.loads(trained.to_str())["model"]["merges"]]
    tokens = [*alphabet, *(f"{letter}</w>" for letter in alphabet)]
    tokens += [left + right for left, right in merges]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: place for place, token in enumerate(dict.fromkeys(tokens))}
    return transformers.CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=length)


def bert_tokenizer():
    """Wordpiece with BERT's ids for [CLS], [SEP], full stop and question mark."""
    tokens = ["[PAD]", *(f"[unused{place}]" for place in range(99)), "[UNK]", "[CLS]", "[SEP]"]
    letters = "abcdefghijklmnopqrstuvwxyz"
    tokens += ["[MASK]", *letters, *(f"##{letter}" for letter in letters), *WORDS[2:], "##s"]
    tokens = list(dict.fromkeys(tokens))
    tokens += [f"[filler{place}]" for place in range(1012 - len(tokens))]
    tokens += [".", *(f"[more{place}]" for place in range(16)), "?", ",", "-", "'"]
    vocabulary = {token: place for place, token in enumerate(tokens)}
    assert (vocabulary["[CLS]"], vocabulary["."], vocabulary["?"]) == (101, 1012, 1029)
    return transformers.BertTokenizer(vocab=vocabulary)


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory):
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("clip")
    tokenizer = clip_tokenizer()
    config = transformers.CLIPConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "max_position_embeddings": 16,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 32,
            "patch_size": 8,
        },
        projection_dim=24,
    )
    transformers.CLIPModel(config).eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    transformers.CLIPImageProcessor(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    ).save_pretrained(folder)
    return folder


def save_siglip(folder, tokenizer):
    torch.manual_seed(2)
    tower = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    config = transformers.SiglipConfig(
        text_config={
            **tower,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": 12,
            "bos_token_id": 1,
            "eos_token_id": 1,
        },
        vision_config={**tower, "image_size": 32, "patch_size": 8},
    )
    transformers.SiglipModel(config).eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    transformers.SiglipImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def siglip_folder(tmp_path_factory):
    """A SigLIP with its own SentencePiece tokeniser, which knows no character offsets."""
    folder = tmp_path_factory.mktemp("siglip")
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences()),
        model_writer=written,
        vocab_size=60,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    (folder / "spiece.model").write_bytes(written.getvalue())
    tokenizer = transformers.SiglipTokenizer(
        str(folder / "spiece.model"), model_max_length=12, pad_token="</s>"
    )
    return save_siglip(folder, tokenizer)


@pytest.fixture(scope="session")
def siglip2_folder(tmp_path_factory):
    """A fixed-resolution SigLIP 2: the same towers with a fast tokeniser."""
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=bpe(500, special=["<pad>", "</s>"], template="$A </s>"),
        pad_token="<pad>",
        eos_token="</s>",
        model_input_names=["input_ids"],
        model_max_length=12,
    )
    return save_siglip(tmp_path_factory.mktemp("siglip2"), tokenizer)


OPEN_CLIP_CONFIG = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {
        "context_length": 14,
        "vocab_size": 49408,
        "width": 32,
        "heads": 2,
        "layers": 2,
    },
}
PREPROCESS = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4], "interpolation": "bilinear"}


def save_open_clip(folder, config, preprocess, *, custom_text=False):
    torch.manual_seed(3)
    model_class = open_clip.CustomTextCLIP if custom_text else open_clip.CLIP
    model = model_class(**config)
    save_file(
        {name: tensor.contiguous() for name, tensor in model.state_dict().items()},
        folder / "open_clip_model.safetensors",
    )
    written = {"model_cfg": {**config, "custom_text": custom_text}, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(written))
    return folder


@pytest.fixture(scope="session")
def open_clip_folder(tmp_path_factory):
    """A CLIP with open_clip's own tokeniser."""
    return save_open_clip(tmp_path_factory.mktemp("open_clip"), OPEN_CLIP_CONFIG, PREPROCESS)


@pytest.fixture(scope="session")
def open_clip_hf_folder(tmp_path_factory):
    """A CLIP with a transformers tokeniser in its folder, squashing images as SigLIP does."""
    folder = tmp_path_factory.mktemp("open_clip_hf")
    tokenizer = clip_tokenizer()
    text = {
        **OPEN_CLIP_CONFIG["text_cfg"],
        "vocab_size": len(tokenizer),
        "hf_tokenizer_name": "local",
    }
    tokenizer.save_pretrained(folder)
    config = {**OPEN_CLIP_CONFIG, "text_cfg": text}
    return save_open_clip(folder, config, {**PREPROCESS, "resize_mode": "squash"})


def owl_towers(tokenizer, image_size):
    tower = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    ids = {
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 16,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": 0,
    }
    return {
        "text_config": {**tower, **ids},
        "vision_config": {**tower, "image_size": image_size, "patch_size": 16},
        "projection_dim": 32,
    }


def save_owl(model, folder):
    """With small heads: a fresh model's scores are all 0 or 1, and its boxes points."""
    for head in (model.class_head, model.box_head):
        for weights in head.parameters():
            torch.nn.init.normal_(weights, std=0.1)
    model.eval().save_pretrained(folder)


@pytest.fixture(scope="session")
def owlvit_folder(tmp_path_factory):
    torch.manual_seed(4)
    folder = tmp_path_factory.mktemp("owlvit")
    tokenizer = clip_tokenizer()
    config = transformers.OwlViTConfig(**owl_towers(tokenizer, 64))
    save_owl(transformers.OwlViTForObjectDetection(config), folder)
    image_processor = transformers.OwlViTImageProcessor(size={"height": 64, "width": 64})
    transformers.OwlViTProcessor(image_processor, tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def owlv2_folder(tmp_path_factory):
    torch.manual_seed(5)
    folder = tmp_path_factory.mktemp("owlv2")
    tokenizer = clip_tokenizer()
    config = transformers.Owlv2Config(**owl_towers(tokenizer, 64))
    save_owl(transformers.Owlv2ForObjectDetection(config), folder)
    image_processor = transformers.Owlv2ImageProcessor(size={"height": 64, "width": 64})
    transformers.Owlv2Processor(image_processor, tokenizer).save_pretrained(folder)
    return folder


def save_dino(folder, config_class, model_class):
    """With prompts of at most 24 tokens, so that phrases are soon chunked."""
    torch.manual_seed(6)
    tokenizer = bert_tokenizer()
    config = config_class(
        backbone_config=transformers.SwinConfig(
            image_size=64,
            patch_size=4,
            embed_dim=16,
            depths=[1, 1, 1, 1],
            num_heads=[1, 2, 2, 2],
            window_size=4,
            out_features=["stage2", "stage3", "stage4"],
        ),
        text_config={
            "model_type": "bert",
            "vocab_size": len(tokenizer),
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 48,
            "max_position_embeddings": 64,
        },
        d_model=64,
        encoder_layers=2,
        decoder_layers=2,
        encoder_ffn_dim=48,
        decoder_ffn_dim=48,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        num_queries=12,
        num_feature_levels=4,
        max_text_len=24,
    )
    model_class(config).eval().save_pretrained(folder)
    image_processor = transformers.GroundingDinoImageProcessor(
        size={"shortest_edge": 96, "longest_edge": 160}
    )
    transformers.GroundingDinoProcessor(image_processor, tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def dino_folder(tmp_path_factory):
    return save_dino(
        tmp_path_factory.mktemp("dino"),
        transformers.GroundingDinoConfig,
        transformers.GroundingDinoForObjectDetection,
    )


@pytest.fixture(scope="session")
def mm_dino_folder(tmp_path_factory):
    return save_dino(
        tmp_path_factory.mktemp("mm_dino"),
        transformers.MMGroundingDinoConfig,
        transformers.MMGroundingDinoForObjectDetection,
    )


LLAVA_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}USER: {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>\n{% else %}{{ part['text'] }}{% endif %}{% endfor %}"
    " {% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
DECODER = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}


def chat_tokenizer(**options):
    special = ["<pad>", "<s>", "</s>", "<image>"]
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=bpe(600, special=special, template="<s> $A", **options),
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        padding_side="left",
    )


def save_llava(folder, *, chat_template, metaspace=False):
    torch.manual_seed(8)
    tokenizer = chat_tokenizer(metaspace=metaspace)
    config = transformers.LlavaConfig(
        text_config={"model_type": "llama", "vocab_size": len(tokenizer), **DECODER},
        vision_config={
            "model_type": "clip_vision_model",
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 32,
            "patch_size": 8,
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-1,
    )
    model = transformers.LlavaForConditionalGeneration(config).eval()
    # Wide enough for scores to differ between tokens: a fresh model is close to uniform.
    torch.nn.init.normal_(model.lm_head.weight, std=0.5)
    model.save_pretrained(folder)
    transformers.LlavaProcessor(
        image_processor=transformers.CLIPImageProcessor(
            size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
        ),
        tokenizer=tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=chat_template,
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def llava_folder(tmp_path_factory):
    return save_llava(tmp_path_factory.mktemp("llava"), chat_template=LLAVA_TEMPLATE)


@pytest.fixture(scope="session")
def llava_metaspace_folder(tmp_path_factory):
    """A LLaVA whose tokeniser marks the space before a word, as SentencePiece does."""
    folder = tmp_path_factory.mktemp("llava_metaspace")
    return save_llava(folder, chat_template=LLAVA_TEMPLATE, metaspace=True)


@pytest.fixture(scope="session")
def llava_plain_folder(tmp_path_factory):
    return save_llava(tmp_path_factory.mktemp("llava_plain"), chat_template=None)


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory):
    torch.manual_seed(9)
    folder = tmp_path_factory.mktemp("llama")
    tokenizer = chat_tokenizer()
    config = transformers.LlamaConfig(vocab_size=len(tokenizer), **DECODER)
    model = transformers.LlamaForCausalLM(config).eval()
    torch.nn.init.normal_(model.lm_head.weight, std=0.5)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
