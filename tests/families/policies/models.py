"""Tiny random models of each family, saved by the library's own classes as their repositories are.

What builds a family has its name in `matrix.FAMILIES`.
"""

import json
from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

CORPUS = [
    "USER: Describe the image. ASSISTANT: A cat is on the table. There is a red cup and a dog.",
    "A person rides a bike. Two birds fly over the blue car. The man holds an umbrella. A chair.",
    "<|im_start|>user What is on the table, and where? assistant You are a helpful assistant.",
]
WIDTH = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "initializer_range": 0.15,  # as drawn by default, a model's say is next to nothing
}
TOWER = {**WIDTH, "intermediate_size": 48, "image_size": 28, "patch_size": 14}
DECODER = {
    **WIDTH,
    "intermediate_size": 48,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}
TEMPLATES = {
    path.stem: path.read_text().rstrip("\n")
    for path in sorted(Path(__file__).with_name("templates").glob("*.jinja"))
}
PINPOINTS = [[28, 56], [56, 28], [56, 56], [84, 28], [28, 84]]
ANYRES = {"image_grid_pinpoints": PINPOINTS, "crop_size": {"height": 28, "width": 28}}


def trained(special, *, metaspace):
    """Vocabulary and merges: byte-level, or with marked spaces and bytes to fall back on."""
    inner = Tokenizer(models.BPE(byte_fallback=metaspace))
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if metaspace:
        inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
        special = [*special, *(f"<0x{byte:02X}>" for byte in range(256))]
        alphabet = [chr(code) for code in range(33, 127)]
    trainer = trainers.BpeTrainer(
        vocab_size=len(special) + len(alphabet) + 400,
        special_tokens=special,
        initial_alphabet=alphabet,
        show_progress=False,
    )
    inner.train_from_iterator(CORPUS * 4, trainer)
    learned = json.loads(inner.to_str())["model"]
    return learned["vocab"], [tuple(pair) for pair in learned["merges"]]


def llama_tokenizer(*more, **options):
    vocab, merges = trained(["<unk>", "<s>", "</s>"], metaspace=True)
    tokenizer = transformers.LlamaTokenizer(
        vocab=vocab, merges=merges, add_bos_token=True, **options
    )
    tokenizer.add_tokens([transformers.AddedToken(each, special=True) for each in more])
    return tokenizer


def qwen_tokenizer(*more, **options):
    vocab, merges = trained([], metaspace=False)
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *more]
    vocab = {**vocab, **{each: len(vocab) + n for n, each in enumerate(special)}}
    return transformers.Qwen2Tokenizer(
        vocab=vocab,
        merges=merges,
        eos_token="<|im_end|>",
        extra_special_tokens=options.pop("named", special),
        **options,
    )


def llama3_tokenizer(*more):
    special = ["<|begin_of_text|>", "<|end_of_text|>", "<|pad|>", *more]
    vocab, merges = trained(special, metaspace=False)
    inner = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.post_processor = processors.TemplateProcessing(
        single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", 0)]
    )
    names = {"bos_token": special[0], "eos_token": special[1], "pad_token": special[2]}
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, extra_special_tokens=list(more), **names
    )


def bert_tokenizer():
    letters = "abcdefghijklmnopqrstuvwxyz"
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "?", ",", "<", ">", "/", *letters]
    tokens += [f"##{letter}" for letter in letters]
    vocab = {token: place for place, token in enumerate(tokens)}
    return transformers.BertTokenizer(vocab=vocab, model_max_length=128)


def ids_of(tokenizer):
    return {
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def save(folder, model, processor, *, ends):
    """Writes the folder; with wide logits, so that tokens differ."""
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(3)
        for name, weights in model.named_parameters():
            if "projector" in name or "merger" in name or "query_tokens" in name:
                weights.add_(0.3 * torch.randn_like(weights))
    model.generation_config.eos_token_id = ends if len(ends) > 1 else ends[0]
    model.generation_config.pad_token_id = processor.tokenizer.pad_token_id
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def llava(folder):
    tokenizer = llama_tokenizer("<image>", "<pad>", pad_token="<pad>")
    config = transformers.LlavaConfig(
        vision_config={"model_type": "clip_vision_model", **TOWER},
        text_config={"model_type": "llama", **DECODER, **ids_of(tokenizer)},
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )
    images = transformers.CLIPImageProcessor(
        size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}
    )
    processor = transformers.LlavaProcessor(
        images,
        tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATES["vicuna"],
    )
    model = transformers.LlavaForConditionalGeneration(config)
    save(folder, model, processor, ends=[tokenizer.eos_token_id])


def llava_next(folder, *, text="llama", template="vicuna"):
    tokenizer = llama_tokenizer("<image>", "<pad>", pad_token="<pad>")
    config = transformers.LlavaNextConfig(
        vision_config={"model_type": "clip_vision_model", **TOWER},
        text_config={"model_type": text, **DECODER, **ids_of(tokenizer)},
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_grid_pinpoints=PINPOINTS,
    )
    images = transformers.LlavaNextImageProcessor(size={"shortest_edge": 28}, **ANYRES)
    processor = transformers.LlavaNextProcessor(
        images,
        tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATES[template],
    )
    model = transformers.LlavaNextForConditionalGeneration(config)
    save(folder, model, processor, ends=[tokenizer.eos_token_id])


def llava_next_vicuna(folder):
    llava_next(folder)


def llava_next_mistral(folder):
    llava_next(folder, text="mistral", template="mistral")


def llava_onevision(folder):
    tokenizer = qwen_tokenizer("<image>", "<video>")
    config = transformers.LlavaOnevisionConfig(
        vision_config={"model_type": "siglip_vision_model", "vision_use_head": False, **TOWER},
        text_config={"model_type": "qwen2", **DECODER, **ids_of(tokenizer)},
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=[[28, 28], *PINPOINTS],
    )
    images = transformers.LlavaOnevisionImageProcessor(
        size={"height": 28, "width": 28}, image_grid_pinpoints=[[28, 28], *PINPOINTS]
    )
    processor = transformers.LlavaOnevisionProcessor(
        images,
        tokenizer,
        transformers.LlavaOnevisionVideoProcessor(size={"height": 28, "width": 28}),
        num_image_tokens=4,
        vision_feature_select_strategy="full",
        chat_template=TEMPLATES["onevision"],
    )
    model = transformers.LlavaOnevisionForConditionalGeneration(config)
    save(folder, model, processor, ends=[tokenizer.eos_token_id])


def instructblip(folder):
    """As its repository: the begin token is the end token, and the Q-Former reads with BERT's."""
    tokenizer = llama_tokenizer("[PAD]", bos_token="</s>", unk_token="</s>", pad_token="[PAD]")
    reader = bert_tokenizer()
    processor = transformers.InstructBlipProcessor(
        transformers.BlipImageProcessor(size={"height": 28, "width": 28}), tokenizer, reader, 4
    )
    config = transformers.InstructBlipConfig(
        vision_config=TOWER,
        qformer_config={
            **WIDTH,
            "intermediate_size": 48,
            "vocab_size": len(reader),
            "max_position_embeddings": 128,
            "encoder_hidden_size": 32,
        },
        text_config={"model_type": "llama", **DECODER, **ids_of(tokenizer)},
        num_query_tokens=4,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )
    model = transformers.InstructBlipForConditionalGeneration(config)
    save(folder, model, processor, ends=[tokenizer.eos_token_id])


def qwen_processor(kind):
    vision = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
    tokenizer = qwen_tokenizer(*vision)
    sizes = {"size": {"shortest_edge": 28 * 28, "longest_edge": 28 * 28 * 6}}
    images = transformers.Qwen2VLImageProcessor(**sizes)
    video = transformers.Qwen2VLVideoProcessor(**sizes)
    return kind(images, tokenizer, video, chat_template=TEMPLATES["qwen"])


def qwen_config(tokenizer, **vision):
    named = ("image_pad", "video_pad", "vision_start", "vision_end")
    ids = {f"{each}_token_id": tokenizer.convert_tokens_to_ids(f"<|{each}|>") for each in named}
    ids = {name.replace("_pad", ""): value for name, value in ids.items()}
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 1, 1]}
    text = {**DECODER, **ids_of(tokenizer), "rope_parameters": rope}
    return {"text_config": text, "vision_config": {"depth": 2, "num_heads": 2, **vision}, **ids}


def qwen2_vl(folder):
    processor = qwen_processor(transformers.Qwen2VLProcessor)
    tokenizer = processor.tokenizer
    config = transformers.Qwen2VLConfig(
        **qwen_config(tokenizer, embed_dim=32, hidden_size=32, mlp_ratio=2),
        tie_word_embeddings=True,
    )
    model = transformers.Qwen2VLForConditionalGeneration(config)
    save(folder, model, processor, ends=[tokenizer.eos_token_id, tokenizer.pad_token_id])


def qwen2_5_vl(folder):
    processor = qwen_processor(transformers.Qwen2_5_VLProcessor)
    tokenizer = processor.tokenizer
    vision = {"hidden_size": 32, "out_hidden_size": 32, "intermediate_size": 48}
    config = transformers.Qwen2_5_VLConfig(
        **qwen_config(tokenizer, **vision, window_size=56, fullatt_block_indexes=[1])
    )
    model = transformers.Qwen2_5_VLForConditionalGeneration(config)
    save(folder, model, processor, ends=[tokenizer.eos_token_id, tokenizer.pad_token_id])


def internvl(folder):
    named = {
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    }
    tokenizer = qwen_tokenizer(*named.values(), named=named)
    config = transformers.InternVLConfig(
        vision_config={**TOWER, "image_size": [28, 28], "patch_size": [7, 7]},
        text_config={"model_type": "qwen2", **DECODER, **ids_of(tokenizer)},
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=4,
        tie_word_embeddings=False,
    )
    sizes = {"size": {"height": 28, "width": 28}}
    processor = transformers.InternVLProcessor(
        transformers.GotOcr2ImageProcessor(**sizes, max_patches=4, crop_to_patches=True),
        tokenizer,
        transformers.InternVLVideoProcessor(**sizes),
        image_seq_length=4,
        chat_template=TEMPLATES["internvl"],
    )
    model = transformers.InternVLForConditionalGeneration(config)
    save(folder, model, processor, ends=[tokenizer.eos_token_id])


def idefics3(folder):
    places = [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]
    named = ["<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>"]
    tokenizer = llama3_tokenizer(*named, *places)
    config = transformers.Idefics3Config(
        vision_config={**TOWER, "patch_size": 7},
        text_config={"model_type": "llama", **DECODER, **ids_of(tokenizer)},
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        pad_token_id=tokenizer.pad_token_id,
    )
    images = transformers.Idefics3ImageProcessor(
        size={"longest_edge": 56}, max_image_size={"longest_edge": 28}
    )
    processor = transformers.Idefics3Processor(
        images, tokenizer, image_seq_len=4, chat_template=TEMPLATES["idefics"]
    )
    model = transformers.Idefics3ForConditionalGeneration(config)
    utterance = tokenizer.convert_tokens_to_ids("<end_of_utterance>")
    save(folder, model, processor, ends=[utterance, tokenizer.eos_token_id])


def paligemma(folder):
    vocab, merges = trained(["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"], metaspace=True)
    tokenizer = transformers.GemmaTokenizer(vocab=vocab, merges=merges)
    images = transformers.SiglipImageProcessor(size={"height": 28, "width": 28})
    images.image_seq_length = 4
    processor = transformers.PaliGemmaProcessor(images, tokenizer)
    config = transformers.PaliGemmaConfig(
        vision_config={**TOWER, "model_type": "siglip_vision_model", "projection_dim": 32},
        text_config={"model_type": "gemma", **DECODER, "head_dim": 8, **ids_of(tokenizer)},
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        projection_dim=32,
        hidden_size=32,
    )
    model = transformers.PaliGemmaForConditionalGeneration(config)
    save(folder, model, processor, ends=[tokenizer.eos_token_id])


def causal_lm(folder):
    tokenizer = llama_tokenizer("<pad>", pad_token="<pad>")
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**DECODER, **ids_of(tokenizer)))
    with torch.no_grad():
        model.lm_head.weight.mul_(3)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
