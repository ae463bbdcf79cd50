"""A CLIP scorer on FastAPI without batching. Knows FastAPI and open_clip, no Sightline.

As its users write one: a plain function per request, which FastAPI runs on a thread.
"""

import argparse
import base64
import io
from typing import Any

import open_clip
import torch
import uvicorn
from fastapi import FastAPI
from PIL import Image
from pydantic import BaseModel


class Question(BaseModel):
    """An image as base64, and texts."""

    image: str
    texts: list[str]


def create_app(folder: str) -> FastAPI:
    """Returns the app with its model loaded."""
    name = f"local-dir:{folder}"
    create: Any = open_clip.create_model_and_transforms  # typed as one tuple of everything
    model, _, transform = create(name)
    model.eval()
    tokenizer = open_clip.get_tokenizer(name)
    app = FastAPI()

    @app.post("/predict")
    def predict(question: Question) -> dict[str, list[float]]:
        image = Image.open(io.BytesIO(base64.b64decode(question.image))).convert("RGB")
        with torch.inference_mode():
            seen = model.encode_image(transform(image)[None], normalize=True)[0]
            read = model.encode_text(tokenizer(question.texts), normalize=True)
            return {"cosines": (read @ seen).tolist()}

    return app


def main() -> None:
    """Serves until stopped."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("port", type=int)
    options = parser.parse_args()
    uvicorn.run(
        create_app(options.folder), host="127.0.0.1", port=options.port, log_level="warning"
    )


if __name__ == "__main__":
    main()
