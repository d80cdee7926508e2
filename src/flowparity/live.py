# SPDX-License-Identifier: Apache-2.0
"""What a long-running exporter offers beside its export: its accounting as Prometheus metrics over HTTP (text format 0.0.4), one page per request."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

from flowparity.accounting import Accounting, StreamAccount
from flowparity.errors import FlowparityError, UsageError
from flowparity.native import RunResult

_VERDICTS = ("filtered", "sampled_out", "non_ip", "malformed", "shed", "metered")
_CONTENT = "text/plain; version=0.0.4; charset=utf-8"
_COUNTERS = {
    "received": ("flowparity_frames_received_total", "Frames in the receive direction (S-VER-1)."),
    "metered_packets": ("flowparity_packets_metered_total", "Packets counted into records; a super-packet counts each of its segments."),
    "late": ("flowparity_packets_late_total", "Packets so late that each left as a record of its own (S-TIM-3)."),
    "clock_steps": ("flowparity_timestamps_replaced_total", "Timestamps further from the clock than max_clock_step."),
    "evicted": ("flowparity_records_evicted_total", "Live records closed because the cache was full."),
}


def metrics(result: RunResult) -> str:
    """The accounts of this moment, by worker, as Prometheus reads them. What is unknown is absent, not 0."""
    lines: list[str] = []
    lines += _family("flowparity_up", "gauge", "1 while the exporter runs.", [("", 1)])
    for name, (metric, text) in _COUNTERS.items():
        lines += _family(metric, "counter", text, [(_labels(worker=i), getattr(account, name)) for i, account in enumerate(result.workers)])
    verdicts = [(_labels(worker=i, verdict=name), getattr(account, name)) for i, account in enumerate(result.workers) for name in _VERDICTS]
    lines += _family("flowparity_frames_total", "counter", "Frames by verdict; their sum is the frames received (S-INV-1).", verdicts)
    resident = [(_labels(worker=i), account.resident_packets) for i, account in enumerate(result.workers)]
    lines += _family("flowparity_packets_resident", "gauge", "Packets in records that are still in the cache.", resident)
    if result.accounting.dropped is not None:
        lines += _family("flowparity_frames_dropped_total", "counter", "Frames that the packet source lost.", [("", result.accounting.dropped)])
    for each in fields(StreamAccount):
        kind, suffix = ("gauge", "") if each.name.startswith("queued") else ("counter", "_total")
        lines += _family(
            f"flowparity_stream_{each.name}{suffix}", kind, f"Of each export stream: {each.name.replace('_', ' ')}.", _streams(result.workers, each.name)
        )
    lines += _family("flowparity_source_counter", "gauge", "The packet source's own counters.", [(_labels(name=n), v) for n, v in result.counters.items()])
    broken = len(result.accounting.broken())
    lines += _family(
        "flowparity_invariants_broken", "gauge", "Accounting invariants that do not hold at this moment; workers are read one after the other.", [("", broken)]
    )
    return "\n".join(lines) + "\n"


def _streams(workers: Sequence[Accounting], name: str) -> list[tuple[str, int]]:
    return [(_labels(worker=i, stream=stream), getattr(account, name)) for i, worker in enumerate(workers) for stream, account in worker.streams.items()]


def _labels(**values: str | int) -> str:
    inner = ",".join(f'{name}="{_escape(str(value))}"' for name, value in values.items())
    return f"{{{inner}}}"


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _family(name: str, kind: str, text: str, samples: Sequence[tuple[str, int]]) -> Iterator[str]:
    if not samples:
        return
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} {kind}"
    for labels, value in samples:
        yield f"{name}{labels} {value}"


class _Server(ThreadingHTTPServer):
    daemon_threads = True


class MetricsServer:
    """Serves `GET /metrics` at an address until it is closed. Used as a context manager; raises UsageError when the address cannot be listened on."""

    def __init__(self, host: str, port: int, snapshot: Callable[[], RunResult]) -> None:
        try:
            family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
            server = type("_Metrics", (_Server,), {"address_family": family})
            self._server: ThreadingHTTPServer = server(address[:2], _handler(snapshot))
        except OSError as error:
            raise UsageError(f"--metrics: cannot listen on {host} port {port}: {error.strerror or error}; choose another") from None
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)
        self._thread.start()

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        host, port = self._server.server_address[:2]
        return str(host), int(port)

    def __enter__(self) -> MetricsServer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Stops listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _handler(snapshot: Callable[[], RunResult]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known: Mapping[str, Callable[[], str]] = {"/metrics": lambda: metrics(snapshot())}
            page = known.get(self.path.partition("?")[0])
            if page is None:
                self.send_error(404, "only /metrics is here")
                return
            try:
                body = page().encode()
            except FlowparityError as error:
                self.send_error(503, str(error))
                return
            self.send_response(200)
            self.send_header("Content-Type", _CONTENT)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Requests are not logged: the accounting on the standard error stays readable."""

    return Handler
