"""Expansion by a chat model behind a server that speaks OpenAI's protocol."""

from dataclasses import replace

from openreel.recaption.chat import Ask
from openreel.recaption.endpoint import Endpoint, EndpointConfig
from openreel.recaption.expansion import NoAnswer, Wish
from openreel.recaption.language import Chat, Script, caption_in


class EndpointModel:
    """A backend that asks a server; whatever it does, within the time that there is."""

    translates = True

    def __init__(
        self, config: EndpointConfig, script: Script | None = None, *, timeout_s: float = 30.0
    ) -> None:
        """timeout_s: of an expansion in all; each of its two attempts has half of it."""
        half = timeout_s / 2
        self.chat = Chat(script or Script())
        self.endpoint = Endpoint(
            replace(config, deadline_s=half, timeout_s=min(half, config.timeout_s))
        )
        self.instruction = self.chat.script.identity
        self.identity = f"endpoint:{self.endpoint.config.identity}"

    def write(self, wish: Wish) -> str:
        (answer,) = self.endpoint.ask([Ask(messages=self.chat.messages(wish), seed=wish.seed)])
        if answer.outcome != "ok":
            raise NoAnswer(f"{answer.outcome}: {answer.reason}")
        return caption_in(answer.text)

    def close(self) -> None:
        """Give back the connection."""
        self.endpoint.close()
