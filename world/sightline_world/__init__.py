"""EmojiWorld, the embedded default: scenes, captions and tiny models. Knows no HTTP."""
