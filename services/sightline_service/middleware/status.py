"""The status that a reply begins with, for those who record it. Knows ASGI's messages."""

from starlette.types import Message, Send


class StatusNote:
    """A `send` that passes everything on.

    Attributes:
        status: of the reply; 0 until it has begun.
    """

    def __init__(self, send: Send) -> None:
        self.status = 0
        self._send = send

    async def __call__(self, message: Message) -> None:
        """Passes a message on."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
        await self._send(message)
