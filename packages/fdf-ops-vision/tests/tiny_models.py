"""Writes tiny models with random weights, as save_pretrained writes real ones, to be loaded by the same code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

TOWER = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "patch_size": 8,
}
TEXT = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
WORDS = ["a", "cat", "dog", "on", "the", "mat", "tree", "red", "blue", "house", "runs", "sits", "USER:", "ASSISTANT:"]
TEMPLATE = (
    "{% for message in messages %}ASKED: {% for part in message['content'] %}{% if part['type'] == 'image' %}<image> "
    "{% else %}{{ part['text'] }} {% endif %}{% endfor %}{% endfor %}{% if add_generation_prompt %}SAID:{% endif %}"
)


def write_siglip(transformers: Any, folder: Path) -> Path:
    """Write a SigLIP of 32 x 32 pixels, with both its towers."""
    import torch

    torch.manual_seed(0)
    config = transformers.SiglipConfig(vision_config={**TOWER, "image_size": 32}, text_config=TEXT)
    transformers.SiglipModel(config).save_pretrained(folder)
    transformers.SiglipImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def write_siglip2(transformers: Any, folder: Path) -> Path:
    """Write a SigLIP 2 of native aspect ratio: at most 16 patches of 8 x 8 pixels."""
    import torch

    torch.manual_seed(1)
    config = transformers.Siglip2Config(vision_config={**TOWER, "num_patches": 16}, text_config=TEXT)
    transformers.Siglip2Model(config).save_pretrained(folder)
    transformers.Siglip2ImageProcessor(patch_size=8, max_num_patches=16).save_pretrained(folder)
    return folder


def write_clip(transformers: Any, folder: Path) -> Path:
    """Write a CLIP of 32 x 32 pixels, with both its towers, whose embeddings are narrower than these."""
    import torch

    torch.manual_seed(2)
    config = transformers.CLIPConfig(
        vision_config={**TOWER, "image_size": 32, "projection_dim": 16}, text_config=TEXT, projection_dim=16
    )
    transformers.CLIPModel(config).save_pretrained(folder)
    clip_images(transformers).save_pretrained(folder)
    return folder


def clip_images(transformers: Any, **options: Any) -> Any:
    """Return the processor of such a CLIP."""
    sizes = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    return transformers.CLIPImageProcessor(**{**sizes, **options})


def write_llava(
    transformers: Any, folder: Path, *, kind: str = "Llava", template: str | None = TEMPLATE, tied: bool = False
) -> Path:
    """Write a LLaVA whose words are few and depend on the image; `tied`: the same weights for words in and out."""
    import torch

    torch.manual_seed(3)
    vision = transformers.CLIPVisionConfig(**{**TOWER, "projection_dim": 16}, image_size=32)
    text = transformers.LlamaConfig(
        **{**TEXT, "vocab_size": 5 + len(WORDS)}, num_key_value_heads=2, pad_token_id=0, max_position_embeddings=256
    )
    more = {"image_grid_pinpoints": [[32, 64], [64, 32]]} if kind == "LlavaNext" else {}
    config = getattr(transformers, f"{kind}Config")(
        vision_config=vision,
        text_config=text,
        image_token_index=4,
        vision_feature_layer=-1,
        tie_word_embeddings=tied,
        **more,
    )
    model = getattr(transformers, f"{kind}ForConditionalGeneration")(config)
    with torch.no_grad():
        # Random weights hardly look at the image: louder, their words depend on it.
        for parameter in model.parameters():
            parameter.mul_(6)
    model.generation_config.pad_token_id = 0
    model.save_pretrained(folder)
    images = getattr(transformers, f"{kind}ImageProcessor")(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}, **more
    )
    processor = getattr(transformers, f"{kind}Processor")(
        images,
        _tokenizer(transformers),
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=template,
    )
    processor.save_pretrained(folder)
    return folder


def _tokenizer(transformers: Any) -> Any:
    """A tokenizer of a few words, built here."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    listed = ["<pad>", "<s>", "</s>", "<unk>", "<image>", *WORDS]
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(listed)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        additional_special_tokens=["<image>"],
    )
