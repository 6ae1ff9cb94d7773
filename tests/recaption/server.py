"""A real HTTP server on this machine that answers chat requests as a test tells it to."""

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What goes out for one request."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    hang: bool = False
    """say nothing until the server is closed"""
    drip: bool = False
    """begin, then a byte now and then until the server is closed"""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One request as it came in."""

    path: str
    headers: Mapping[str, str]
    body: Mapping[str, Any]

    @property
    def text(self) -> str:
        """What the last message says, its pictures left out."""
        content = self.body["messages"][-1]["content"]
        if isinstance(content, str):
            return content
        return "\n".join(part["text"] for part in content if part["type"] == "text")


def said(text: object, *, finish: str = "stop", **choice: Any) -> Reply:
    """A well-formed completion; more fields of its choice may be given."""
    message = choice.pop("message", {"role": "assistant", "content": text})
    return Reply(
        body=json.dumps(
            {
                "id": "1",
                "object": "chat.completion",
                "choices": [{"index": 0, "message": message, "finish_reason": finish, **choice}],
                "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
            }
        ).encode()
    )


class ChatServer:
    """Answers with reply(request, how often its text was asked before); remembers all requests."""

    def __init__(self, reply: Callable[[Asked, int], Reply]) -> None:
        self.asked: list[Asked] = []
        self.most_at_once = 0
        self._at_once = 0
        self._closing = threading.Event()
        self._lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                request = Asked(
                    path=self.path,
                    headers={name.lower(): value for name, value in self.headers.items()},
                    body=json.loads(self.rfile.read(length)),
                )
                with server._lock:
                    before = sum(other.text == request.text for other in server.asked)
                    server.asked.append(request)
                    server._at_once += 1
                    server.most_at_once = max(server.most_at_once, server._at_once)
                try:
                    self._send(reply(request, before))
                finally:
                    with server._lock:
                        server._at_once -= 1

            def _send(self, answer: Reply) -> None:
                if answer.hang:
                    server._closing.wait(60)
                    self.close_connection = True
                    return
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                length = 10**6 if answer.drip else len(answer.body)
                self.send_header("Content-Length", str(length))
                self.end_headers()
                try:
                    while answer.drip and not server._closing.wait(0.02):
                        self.wfile.write(b" ")
                    self.wfile.write(answer.body)
                except OSError:
                    self.close_connection = True  # the client had enough

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def __enter__(self) -> Self:
        serve = threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True)
        serve.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing.set()
        self._http.shutdown()
        self._http.server_close()
