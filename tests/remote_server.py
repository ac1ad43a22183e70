"""OpenAI's and Gemini's interfaces on loopback: strict about requests, and as unruly as told.

    with remote_server.running() as server:
        server.script[3] = [503, "reset"]     # what happens to image 3, attempt by attempt
        caption("openai:m", images=[...], overrides=[f"remote.url={server.url}/v1"])

An image is told by its brightness (`number_of`). After its moves comes an ordinary answer.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import io
import json
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from PIL import Image


@dataclasses.dataclass(frozen=True)
class Seen:
    """One request."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    raw: bytes
    image: Image.Image
    data: bytes
    number: int
    begun: float


class Server:
    """What is answered; change it between requests as you like."""

    def __init__(self) -> None:
        self.url = ""
        self.key = ""
        #: Number of the image -> moves, used up one per attempt.
        self.script: dict[int, list[Any]] = {}
        self.requests: list[Seen] = []
        self.paid: Counter[int] = Counter()
        self.delay_s = 0.0
        #: Number of the image -> seconds instead of these.
        self.delays: dict[int, float] = {}
        self.flying = self.most_flying = 0
        self.usage = True
        self.redirect_to = ""
        self.model = "my-model"
        self.lock = threading.Lock()


def number_of(image: Image.Image) -> int:
    """Return the brightness of an image of one grey, in steps of four."""
    (grey,) = image.convert("L").resize((1, 1)).tobytes()
    return round(grey / 4)


@contextlib.contextmanager
def running() -> Iterator[Server]:
    """Serve until the end of the block."""
    state = Server()
    handler = type("Handler", (_Handler,), {"state": state})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    state.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()


class _Invalid(Exception):
    """The request is not of the interface."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: Server

    def log_message(self, *_: object) -> None:
        """Say nothing on standard error."""

    def do_POST(self) -> None:
        state, begun = self.state, time.monotonic()
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        body = json.loads(raw)
        gemini = "generateContent" in self.path
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            data = _gemini_image(body) if gemini else _openai_image(body)
        except (_Invalid, LookupError, TypeError, ValueError) as error:
            return self._error(400, f"Invalid request: {type(error).__name__} {error}")
        image = Image.open(io.BytesIO(data))
        image.load()
        number = number_of(image)
        seen = Seen(self.path, headers, body, raw, image, data, number, begun)
        with state.lock:
            state.requests.append(seen)
            state.flying += 1
            state.most_flying = max(state.flying, state.most_flying)
            moves = state.script.get(number, [])
            move = moves.pop(0) if moves else None
        time.sleep(state.delays.get(number, state.delay_s))
        with state.lock:  # before the answer: once it is out, the client may ask again
            state.flying -= 1
        return self._answer(gemini, headers, number, move)

    def _answer(self, gemini: bool, headers: dict[str, str], number: int, move: Any) -> None:
        state = self.state
        key = headers.get("x-goog-api-key" if gemini else "authorization", "")
        if state.key and key.removeprefix("Bearer ") != state.key:
            said = f"Incorrect API key provided: {key.removeprefix('Bearer ')}."
            return self._error(401, said)
        named = self.path.split("/")[-1].split(":")[0] if gemini else None
        if gemini and self.path != f"/v1beta/models/{named}:generateContent":
            return self._error(404, "no such path")
        if not gemini and self.path != "/v1/chat/completions":
            return self._error(404, "no such path")
        if (named or state.requests[-1].body.get("model")) == "unknown-model":
            return self._error(404, "The model `unknown-model` does not exist")
        if state.redirect_to:
            return self._send(307, b"", {"Location": state.redirect_to + self.path})
        if isinstance(move, tuple):  # (status, headers, record)
            status, more, record = move
            return self._send(status, json.dumps(record).encode(), more)
        if isinstance(move, int):
            return self._error(move, "try later")
        if move == "hang":
            time.sleep(6)
            return self._close()
        if move == "reset":
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            return self._close()
        if move == "malformed":
            return self._send(200, b'{"choices": [{"mess')
        if move == "portal":
            return self._send(200, b"<html>log in</html>")
        with state.lock:
            state.paid[number] += 1
        record = _gemini(number, move) if gemini else _openai(number, move)
        if not state.usage:
            record.pop("usageMetadata" if gemini else "usage")
        return self._send(200, json.dumps(record).encode())

    def _close(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.close()

    def _error(self, status: int, message: str) -> None:
        error = {"message": message, "type": "error", "code": None}
        self._send(status, json.dumps({"error": error}).encode())

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        with contextlib.suppress(OSError):
            self.send_response(status)
            for key, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(body)


def _openai_image(body: dict[str, Any]) -> bytes:
    """Return the image of a request; refuse what the interface does not know."""
    known = {"model", "messages", "max_tokens", "max_completion_tokens", "temperature", "seed"}
    if unknown := set(body) - known:
        raise _Invalid(f"unknown {unknown}")
    if not isinstance(body["model"], str) or not isinstance(body["seed"], int):
        raise _Invalid("types")
    (message,) = body["messages"]
    text, image = message["content"]
    if message["role"] != "user" or text["type"] != "text" or not text["text"]:
        raise _Invalid("text")
    if image["type"] != "image_url" or set(image["image_url"]) - {"url", "detail"}:
        raise _Invalid("image")
    head, _, data = image["image_url"]["url"].partition(";base64,")
    if head not in ("data:image/png", "data:image/jpeg"):
        raise _Invalid("not a data URL")
    return base64.b64decode(data, validate=True)


def _gemini_image(body: dict[str, Any]) -> bytes:
    """Return the image of a request; refuse what the interface does not know."""
    if set(body) != {"contents", "generationConfig"}:
        raise _Invalid(f"unknown {set(body)}")
    if set(body["generationConfig"]) - {"maxOutputTokens", "temperature", "seed"}:
        raise _Invalid("generationConfig")
    (content,) = body["contents"]
    text, image = content["parts"]
    if content["role"] != "user" or not text["text"]:
        raise _Invalid("text")
    blob = image["inline_data"]
    if blob["mime_type"] not in ("image/png", "image/jpeg"):
        raise _Invalid("mime_type")
    return base64.b64decode(blob["data"], validate=True)


def _openai(number: int, move: str | None) -> dict[str, Any]:
    message: dict[str, Any] = {
        "role": "assistant",
        "content": f"caption\n {number} ",
        "refusal": None,
    }
    finish = "stop"
    if move == "refusal":
        message |= {"content": None, "refusal": "I can't help with that."}
    if move == "content_filter":
        message["content"], finish = "half a", "content_filter"
    if move in ("empty", "cut"):
        message["content"], finish = "", "length" if move == "cut" else "stop"
    usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return {"id": "c", "object": "chat.completion", "choices": [choice], "usage": usage}


def _gemini(number: int, move: str | None) -> dict[str, Any]:
    usage = {
        "promptTokenCount": 100, "candidatesTokenCount": 7, "thoughtsTokenCount": 3,
        "totalTokenCount": 110,
    }  # fmt: skip
    if move == "blocked":
        usage = {"promptTokenCount": 100, "totalTokenCount": 100}
        return {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": usage}
    parts = [{"text": "hm", "thought": True}, {"text": "caption "}, {"text": str(number)}]
    candidate: dict[str, Any] = {
        "content": {"role": "model", "parts": parts}, "finishReason": "STOP",
    }  # fmt: skip
    if move in ("SAFETY", "RECITATION"):
        candidate = {"finishReason": move}
    if move in ("empty", "cut"):
        candidate = {
            "content": {"role": "model"}, "finishReason": "MAX_TOKENS" if move == "cut" else "STOP",
        }  # fmt: skip
    return {"candidates": [candidate], "usageMetadata": usage}
