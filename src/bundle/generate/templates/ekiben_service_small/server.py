"""The service where only Python's own library is there: one thread for each connection, functions in a bounded number of
them. Health, metrics and errors are those of the usual service.

After SIGTERM what is in hand is answered, up to a time of grace, and what comes newly is refused.
"""

import http.server
import json
import logging
import os
import re
import signal
import socket
import socketserver
import threading
import time
import uuid
from bisect import bisect_left
from concurrent.futures import Future, ThreadPoolExecutor, TimeoutError
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple

from . import _given, log
from .function import Function, Refusal

HERE = Path(__file__).parent
SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
# Asked every few seconds, and answered to the end.
QUIET = ("/healthz", "/livez", "/readyz", "/metrics")
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
# What the manifest need not say: functions at once, requests that wait, bytes of a body, seconds after SIGTERM.
THREADS, QUEUE, LARGEST, GRACE = 32, 1000, 100000000, 8
# Seconds that a connection may say nothing.
PATIENCE = 60
BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
TEXT = "text/plain; version=0.0.4; charset=utf-8"
# What a refusal is answered with, by its type; 422 where it is none of these.
STATUS = {"body_invalid": 400, "too_large": 413, "media_type": 415}
logger = logging.getLogger("ekiben")
Answer = Tuple[int, bytes, Dict[str, str]]


class Service:
    """Finds who answers a request, measures it, and logs it with what broke."""

    def __init__(self, settings: Dict[str, Any], root: Path, is_trained: bool = True) -> None:
        self.paths = [entry["path"] for entry in settings["functions"]]
        self.is_trained = is_trained
        functions = settings["functions"] if is_trained else []
        self.functions = {entry["path"]: Function(root, entry, settings) for entry in functions}
        self.description = (HERE / "openapi.json").read_bytes()
        # Before all paths, as `/NAME/api`.
        self.root = settings.get("root", "")  # type: str
        self.largest = int(os.environ.get("EKIBEN_MAX_BODY") or settings.get("limits", {}).get("request", LARGEST))
        self.timeout = settings.get("timeout")  # type: Optional[float]
        self.grace = settings.get("grace", GRACE)
        self.most = settings.get("concurrency") or THREADS
        self.room = self.most + settings.get("queue", QUEUE)
        self.pool = ThreadPoolExecutor(self.most)
        self.metrics = Metrics([*self.paths, *QUIET, "/openapi.json"])
        self.lock = threading.Lock()
        # Requests under way, and those of them that are given to the pool.
        self.in_progress = self.taken = 0
        self.ended = 0.0
        self.is_ready = False

    def answer(self, server: socketserver.BaseServer) -> None:
        """Until SIGTERM."""
        signal.signal(signal.SIGTERM, self.end)
        signal.signal(signal.SIGINT, self.end)
        # A signal writes into the pipe, so that none is missed between a look and a wait.
        heard, told = os.pipe()
        os.set_blocking(told, False)
        signal.set_wakeup_fd(told)
        threading.Thread(target=server.serve_forever, name="accept", daemon=True).start()
        self.is_ready = True
        while not self.ended:
            os.read(heard, 1)
        while self.in_progress and time.monotonic() < self.ended:
            time.sleep(0.02)
        server.server_close()

    def end(self, *_: Any) -> None:
        # Asked once more: at once.
        self.ended = 0.001 if self.ended else time.monotonic() + self.grace

    @property
    def status(self) -> str:
        if self.ended:
            return "ending"
        return "untrained" if not self.is_trained else "ok" if self.is_ready else "starting"

    def reply(self, method: str, path: str, request: "Request") -> Answer:
        """The answer to a request, whatever becomes of it."""
        if self.ended and path not in QUIET:
            return failed(503, "the service ends", {"retry-after": "1"})
        try:
            if path in self.paths:
                if method != "POST":
                    return wrong_method("POST")
                if not self.is_trained:
                    return failed(503, "the model is not trained yet", {"retry-after": "10"})
                return self.call(self.functions[path], request)
            content = {
                "/healthz": lambda: {"status": "ok"},
                "/livez": lambda: {"status": "ok"},
                "/readyz": lambda: {"status": self.status},
                "/metrics": lambda: self.measured().encode(),
                "/openapi.json": lambda: self.description,
            }.get(path)
            if content is None:
                return document(404, {"detail": "Not Found"})
            if method not in ("GET", "HEAD"):
                return wrong_method("GET, HEAD")
            found = content()  # type: ignore
            if path == "/metrics":
                return 200, found, {"content-type": TEXT}
            if isinstance(found, bytes):
                return 200, found, {"content-type": "application/json"}
            return document(200 if path != "/readyz" or self.status == "ok" else 503, found)
        except Gone:
            raise
        except Exception as error:
            return self.broken(error)

    def call(self, function: Function, request: "Request") -> Answer:
        # Before a body is read for nothing.
        if self.taken >= self.room:
            raise Busy()
        began = time.monotonic()
        body = request.body(self.largest)
        try:
            arguments = function.arguments(body)
        except Refusal:
            kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
            coding = request.headers.get("content-encoding", "identity")
            if coding != "identity":
                message = "a body with the coding %s is not taken: send it as it is" % coding
                raise Refusal("media_type", message) from None
            if kind == "multipart/form-data":
                message = "a body of the kind %s is not taken: send application/json" % kind
                raise Refusal("media_type", message) from None
            raise
        left = None if self.timeout is None else max(self.timeout - (time.monotonic() - began), 0)
        return 200, self.run(function, arguments, left), {"content-type": "application/json"}

    def run(self, function: Function, arguments: Dict[str, Any], left: Optional[float]) -> bytes:
        """In a thread of the pool. One that has begun cannot be stopped, and counts until it returns."""
        given, name = _given.get(), log.request_id.get()

        def work() -> bytes:
            _given.set(given)
            log.request_id.set(name)
            try:
                return function.result(arguments)
            except Exception:
                raise
            except BaseException as error:
                # It ends the request alone: not the service, as SystemExit would.
                raise RuntimeError("the function raised %s" % type(error).__name__) from error

        with self.lock:
            if self.taken >= self.room:
                raise Busy()
            self.taken += 1
        job = self.pool.submit(work)
        job.add_done_callback(self.leave)
        try:
            return job.result(left)
        except TimeoutError:
            if job.done():
                # The function's own.
                raise RuntimeError("the function raised TimeoutError") from None
            raise Busy() if job.cancel() else Late(self.timeout or 0) from None

    def leave(self, _: "Future[Any]") -> None:
        with self.lock:
            self.taken -= 1

    def broken(self, error: Exception) -> Answer:
        """An answer for each way in which there is none. A traceback goes into the log alone."""
        if isinstance(error, Refusal):
            status = next((STATUS[one["type"]] for one in error.detail if one["type"] in STATUS), 422)
            return document(status, {"detail": error.detail})
        if isinstance(error, Busy):
            return failed(503, str(error), {"retry-after": "1"})
        if isinstance(error, Late):
            return failed(504, str(error))
        if isinstance(error, Slow):
            return failed(408, "the request did not come in time", {"connection": "close"})
        if isinstance(error, ValueError):
            # The model's way to say that it cannot use this input.
            logger.warning("the model refused its input", exc_info=error)
            return document(422, {"detail": Refusal("value_error", str(error)).detail})
        status = getattr(error, "status_code", None)
        if isinstance(status, int) and 400 <= status < 600:
            # What the model's code says with an HTTPException of whatever framework.
            return document(status, {"detail": getattr(error, "detail", "")})
        logger.error("the request failed", exc_info=error)
        return failed(500, "internal error")

    def measured(self) -> str:
        return self.metrics.text(self.in_progress, max(self.taken - self.most, 0))

    def begin(self) -> None:
        with self.lock:
            self.in_progress += 1

    def done(self, method: str, path: str, status: int, seconds: float) -> None:
        with self.lock:
            self.in_progress -= 1
            self.metrics.observe(method if method in METHODS else "other", path, status, seconds)
        level = logging.DEBUG if path in QUIET and status < 400 else logging.INFO
        fields = {"method": method, "path": path, "status": status, "seconds": round(seconds, 6)}
        logger.log(level, "answered", extra={"fields": fields})


class Busy(Exception):
    def __init__(self) -> None:
        super().__init__("the service has more requests than it can take")


class Late(Exception):
    def __init__(self, seconds: float) -> None:
        super().__init__("there was no answer within %g s" % seconds)


class Slow(Exception):
    """A body that does not come."""


class Gone(Exception):
    """Nobody waits for the answer any more."""


def document(status: int, value: Any, headers: Optional[Dict[str, str]] = None) -> Answer:
    content = json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str).encode("utf-8", "replace")
    return status, content, dict(headers or {}, **{"content-type": "application/json"})


def failed(status: int, detail: str, headers: Optional[Dict[str, str]] = None) -> Answer:
    return document(status, {"detail": detail, "request_id": log.request_id.get()}, headers)


def wrong_method(allowed: str) -> Answer:
    return document(405, {"detail": "Method Not Allowed"}, {"allow": allowed})


class Metrics:
    """In Prometheus' text format 0.0.4, as those of the usual service."""

    def __init__(self, paths: List[str]) -> None:
        self.started, self.paths = time.time(), paths
        self.requests = {}  # type: Dict[Tuple[str, str, int], int]
        self.buckets = {}  # type: Dict[str, List[int]]
        self.sums = {}  # type: Dict[str, float]

    def observe(self, method: str, path: str, status: int, seconds: float) -> None:
        path = path if path in self.paths else "other"
        key = method, path, status
        self.requests[key] = self.requests.get(key, 0) + 1
        self.buckets.setdefault(path, [0] * (len(BOUNDS) + 1))[bisect_left(BOUNDS, seconds)] += 1
        self.sums[path] = self.sums.get(path, 0.0) + seconds

    def text(self, in_progress: int, waiting: int) -> str:
        return "\n".join(self.lines(in_progress, waiting)) + "\n"

    def lines(self, in_progress: int, waiting: int) -> Iterator[str]:
        yield "# HELP ekiben_requests_total Requests answered."
        yield "# TYPE ekiben_requests_total counter"
        for (method, path, status), count in sorted(self.requests.items()):
            yield f'ekiben_requests_total{{method="{method}",path="{path}",status="{status}"}} {count}'
        yield "# HELP ekiben_request_duration_seconds Time from request to answer."
        yield "# TYPE ekiben_request_duration_seconds histogram"
        for path, counts in sorted(self.buckets.items()):
            total = 0
            for bound, count in zip((*BOUNDS, "+Inf"), counts):
                total += count
                yield f'ekiben_request_duration_seconds_bucket{{path="{path}",le="{bound}"}} {total}'
            yield f'ekiben_request_duration_seconds_sum{{path="{path}"}} {self.sums[path]}'
            yield f'ekiben_request_duration_seconds_count{{path="{path}"}} {total}'
        yield "# HELP ekiben_requests_in_progress Requests being answered."
        yield "# TYPE ekiben_requests_in_progress gauge"
        yield f"ekiben_requests_in_progress {in_progress}"
        yield "# HELP ekiben_requests_waiting Requests that wait until the model has time for them."
        yield "# TYPE ekiben_requests_waiting gauge"
        yield f"ekiben_requests_waiting {waiting}"
        yield "# HELP process_start_time_seconds Start of the service, in seconds since 1970."
        yield "# TYPE process_start_time_seconds gauge"
        yield f"process_start_time_seconds {self.started}"


class Request(http.server.BaseHTTPRequestHandler):
    """The requests of a connection, one after the other."""

    protocol_version = "HTTP/1.1"
    # Else the second packet of an answer waits for the first one's acknowledgement.
    disable_nagle_algorithm = True
    timeout = PATIENCE
    service = None  # type: Any

    def __getattr__(self, name: str) -> Any:
        # Any method; which ones there are says the service.
        if name.startswith("do_"):
            return self.serve
        raise AttributeError(name)

    def serve(self) -> None:
        service, started = self.service, time.perf_counter()
        given = self.headers.get("x-request-id", "")
        log.request_id.set(given if SANE_ID.fullmatch(given) else uuid.uuid4().hex)
        credentials = {name[4:].upper(): value for name, value in self.headers.items() if name.lower().startswith("env_")}
        _given.set(credentials)
        shown = path = self.path.partition("?")[0]
        if service.root and (path == service.root or path.startswith(service.root + "/")):
            shown = path = path[len(service.root) :] or "/"
        elif service.root and path not in QUIET:
            # Nobody answers there.
            path = ""
        self.left = None  # type: Optional[int]
        status = 499
        service.begin()
        try:
            answer = service.reply(self.command, path, self)
            self.send(*answer)
            status = answer[0]
        except (Gone, OSError):
            # The caller is gone.
            self.close_connection = True
        finally:
            service.done(self.command, shown, status, time.perf_counter() - started)

    def send(self, status: int, content: bytes, headers: Dict[str, str]) -> None:
        """In one packet, where it fits."""
        if not self.is_read() or self.service.ended:
            headers = dict(headers, connection="close")
        if headers.get("connection") == "close":
            self.close_connection = True
        elif self.request_version == "HTTP/1.0" and not self.close_connection:
            headers = dict(headers, connection="keep-alive")
        reason = http.server.BaseHTTPRequestHandler.responses.get(status, ("",))[0]  # type: ignore
        headers = dict(headers, **{"content-length": str(len(content)), "x-request-id": log.request_id.get()})
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = f"{self.protocol_version} {status} {reason}\r\ndate: {self.date_time_string()}\r\n{head}\r\n"
        self.wfile.write(head.encode("latin-1", "replace") + (b"" if self.command == "HEAD" else content))

    def is_read(self) -> bool:
        """Whether nothing of the request is left in the connection."""
        if self.left is None:
            return self.headers.get("content-length", "0") == "0" and "transfer-encoding" not in self.headers
        return self.left == 0

    def body(self, largest: int) -> bytes:
        """All of it in memory; raises Refusal."""
        coding = self.headers.get("transfer-encoding", "").strip().lower()
        lengths = self.headers.get_all("content-length", [])
        if coding not in ("", "chunked") or coding and lengths or len(set(lengths)) > 1:
            # What could be read in two ways.
            raise Unreadable("the length of the body is not clear")
        try:
            return self.chunks(largest) if coding else self.plain(lengths, largest)
        except socket.timeout:
            raise Slow() from None
        except OSError:
            raise Gone() from None

    def plain(self, lengths: List[str], largest: int) -> bytes:
        text = lengths[0].strip() if lengths else "0"
        if not re.fullmatch(r"[0-9]{1,18}", text):
            raise Unreadable("the length of the body is no number")
        self.left = int(text)
        if self.left > largest:
            raise too_large(largest)
        body = self.rfile.read(self.left)
        if len(body) < self.left:
            raise Gone()
        self.left = 0
        return body

    def chunks(self, largest: int) -> bytes:
        """RFC 9112, section 7.1."""
        self.left, body = 1, bytearray()
        while True:
            size = self.line().partition(b";")[0].strip()
            if not re.fullmatch(rb"[0-9A-Fa-f]{1,15}", size):
                raise Unreadable("a piece of the body has no size")
            length = int(size, 16)
            if not length:
                break
            if len(body) + length > largest:
                raise too_large(largest)
            piece = self.rfile.read(length)
            body += piece
            if len(piece) < length:
                raise Gone()
            if self.line():
                raise Unreadable("a piece of the body is longer than it says")
        while self.line():
            # What comes behind the body means nothing here.
            pass
        self.left = 0
        return bytes(body)

    def line(self) -> bytes:
        line = self.rfile.readline(4096)
        if not line.endswith(b"\n"):
            raise Gone()
        return line.strip()

    def send_error(self, code: int, message: Optional[str] = None, explain: Optional[str] = None) -> None:
        """What could not be read as a request."""
        self.close_connection = True
        self.left = 1
        log.request_id.set(uuid.uuid4().hex)
        if not getattr(self, "command", None):
            self.command = "other"
        if self.request_version == "HTTP/0.9":
            self.request_version = "HTTP/1.1"
        self.send(*document(int(code), {"detail": message or "Bad Request"}))

    def log_message(self, format: str, *args: Any) -> None:
        # Requests are logged when they are answered.
        pass


class Unreadable(Refusal):
    """Whoever sends it may mean something else by it."""

    def __init__(self, message: str) -> None:
        super().__init__("body_invalid", message)


def too_large(limit: int) -> Refusal:
    return Refusal("too_large", "the body has more than %d bytes" % limit)


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 2048

    def handle_error(self, request: Any, address: Any) -> None:
        logger.debug("a connection broke", exc_info=True)

    def server_bind(self) -> None:
        # That of HTTPServer asks for the name of this machine, which may take long.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "", self.server_address[1]


class Both(Server):
    address_family = socket.AF_INET6

    def server_bind(self) -> None:
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


def listen(port: int, service: Service) -> Server:
    """All addresses, those of IPv6 as well where the machine has any."""
    handler = type("Handler", (Request,), {"service": service})
    try:
        return Both(("::", port), handler)
    except OSError:
        return Server(("0.0.0.0", port), handler)
