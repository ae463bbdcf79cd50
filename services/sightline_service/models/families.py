"""Which model families are served, as whom. Knows names and references; loads nothing.

`python -m sightline_service.models.families` prints the matrix of docs/models.md. Every row is a
tiny model of that family in tests/families, held against its own library.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Family:
    """A row of the matrix.

    Attributes:
        name: the library and the architecture.
        example: a reference of the model grammar.
        note: what a user should know of it.
    """

    name: str
    example: str
    note: str


VERIFIERS = (
    Family(
        "open_clip ViT, OpenAI (quick-GELU, 224)",
        "open_clip:ViT-L-14/openai",
        "the tag decides activation and preprocessing",
    ),
    Family(
        "open_clip ViT, OpenAI (quick-GELU, 336)",
        "open_clip:ViT-L-14-336/openai",
        "the vision tower of LLaVA-1.5",
    ),
    Family(
        "open_clip ViT, LAION (GELU, 224)",
        "open_clip:ViT-H-14/laion2b_s32b_b79k",
        "",
    ),
    Family(
        "open_clip SigLIP (sigmoid)",
        "open_clip:ViT-SO400M-14-SigLIP-384/webli",
        "cosine without the sigmoid's scale and bias",
    ),
    Family(
        "open_clip CoCa",
        "open_clip:coca_ViT-L-14/laion2b_s13b_b90k",
        "the contrastive towers; the captioner is not used",
    ),
    Family("transformers CLIP (336)", "hf:openai/clip-vit-large-patch14-336", ""),
    Family(
        "transformers SigLIP, SigLIP 2 (fixed size)",
        "hf:google/siglip2-so400m-patch14-384",
        "texts are padded as in training",
    ),
    Family(
        "transformers SigLIP 2 (naflex)",
        "hf:google/siglip2-base-patch16-naflex",
        "keeps the image's shape",
    ),
    Family("transformers ALIGN", "hf:kakaobrain/align-base", "texts of up to 64 tokens"),
)
DETECTORS = (
    Family("transformers OWL-ViT", "hf:google/owlvit-base-patch32", "scores whole phrases"),
    Family("transformers OWLv2", "hf:google/owlv2-base-patch16-ensemble", "scores whole phrases"),
    Family(
        "transformers Grounding DINO",
        "hf:IDEA-Research/grounding-dino-base",
        "phrases share prompts of 256 tokens",
    ),
    Family(
        "transformers MM-Grounding DINO",
        "hf:openmmlab-community/mm_grounding_dino_tiny_o365v1_goldg",
        "phrases share prompts of 256 tokens",
    ),
    Family(
        "transformers OmDet-Turbo",
        "hf:omlab/omdet-turbo-swin-tiny-hf",
        "a phrase's score depends on the others that are asked for with it",
    ),
    Family(
        "groundingdino-py, original checkpoints",
        "groundingdino:GroundingDINO_SwinT_OGC.py,groundingdino_swint_ogc.pth",
        "needs the extra groundingdino; its BERT from a folder beside the configuration",
    ),
)


def table(families: Sequence[Family]) -> str:
    """Returns the families as a Markdown table."""
    rows = [f"| {each.name} | `{each.example}` | {each.note} |" for each in families]
    return "\n".join(["| family | for example | note |", "|---|---|---|", *rows])


def main() -> None:
    """Prints the matrix."""
    sections = (("Verifiers", VERIFIERS), ("Detectors", DETECTORS))
    text = "\n\n".join(f"{title}\n\n{table(families)}" for title, families in sections)
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    main()
