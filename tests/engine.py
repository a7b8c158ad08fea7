"""An engine with an OpenAI-like API whose answers a test writes; over real HTTP."""

from __future__ import annotations

import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Engine:
    """Starts at once; ``close`` it.

    Args:
        answer: given a `Call`; writes the answer. One word where there is none.

    Attributes:
        asked: the body of each POST.
        looked: the path of each GET.
        models: the status and the body of a GET.
    """

    def __init__(self, answer=lambda call: call.stream(delta("fine."), delta(finish="stop"))):
        self.answer, self.asked, self.looked = answer, [], []
        self.models = (200, {"object": "list", "data": []})
        engine = self

        class Handler(Call):
            def do_POST(self):
                self.body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                engine.asked.append(self.body)
                with contextlib.suppress(ConnectionError):  # whoever asked may have gone
                    engine.answer(self)

            def do_GET(self):
                engine.looked.append(self.path)
                self.refuse(*engine.models)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.handle_error = lambda *_: None  # a client that leaves is no news
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Call(BaseHTTPRequestHandler):
    """One request; ``body`` is what it asks."""

    protocol_version = "HTTP/1.1"

    def refuse(self, status, body):
        """Answer with a status and JSON, or with a text as it is."""
        data = (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/html" if isinstance(body, str) else "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Connection", "close")  # a closed engine has no connections
        self.end_headers()
        self.wfile.write(data)

    def say(self, text, **more):
        """Answer whole."""
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text, **more}}
        head = {"id": "1", "object": "chat.completion", "created": 0, "model": "m"}
        self.refuse(200, {**head, "choices": [choice]})

    def begin(self):
        """Begin a stream."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def send(self, event):
        """Send an event; a text is sent as it is."""
        data = (event if isinstance(event, str) else f"data: {json.dumps(event)}\n\n").encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def stream(self, *events):
        """Answer with events, and end."""
        self.begin()
        for event in [*events, "data: [DONE]\n\n"]:
            self.send(event)
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_):
        pass


def delta(text=None, *, finish=None, **more):
    """A chunk of a stream."""
    content = {} if text is None else {"content": text}
    choice = {"index": 0, "delta": {**content, **more}, "finish_reason": finish}
    return {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": "m", "choices": [choice]}
