"""The sizes that both sides agree on. Knows numbers; what a deployment tightens is its own."""

ITEMS = 64
"""Items in one request."""
TEXTS = 256
"""Texts, or phrases, of one item."""
TEXT_CHARS = 20_000
"""Unicode code points of one text."""
TOKENS = 20_000
"""Token offsets given for one text."""
ID_CHARS = 256
"""Unicode code points of an item's id."""
IMAGE_BYTES = 20 * 1024 * 1024
"""Bytes of one encoded image."""
MAX_BOXES = 100
"""Most boxes that one image may be asked for."""
COUNT = 2**53 - 1
"""Largest whole number that every JSON reader holds exactly."""
