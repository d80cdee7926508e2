# SPDX-License-Identifier: Apache-2.0
"""Drives a backend's plug-in by itself, past the core: what it declares and every packet that it gives, for comparison with what was sent.

cffi reads the contract's own header (native/include/flowparity/backend.h), so the two cannot drift apart.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from cffi import FFI

from flowparity import _core

_ROOT = Path(__file__).resolve().parents[2]
_PLUGINS = Path(_core.__file__).parent / "plugins"
_TS_SOURCES = ("capture", "hardware", "kernel", "software", "sync", "sender")
_BURST = 64
ROOM = 512  # FP_ERRLEN


@cache
def _contract() -> tuple[Any, dict[str, int]]:
    """The header's declarations, and its FP_CAP_ flags by name."""
    text = re.sub(r"/\*.*?\*/", "", (_ROOT / "native/include/flowparity/backend.h").read_text(encoding="utf-8"), flags=re.DOTALL)
    flags = {name: 1 << int(bit) for name, bit in re.findall(r"#define FP_CAP_(\w+)\s+\(1u << (\d+)\)", text)}
    body = re.sub(r"^#.*$", "", text, flags=re.MULTILINE)
    # The one variadic function: what comes after the format is not looked at, so its messages are shown unformatted.
    body = body.replace("const char *format, ...)", "const char *format)").replace(" __attribute__((format(printf, 3, 4)))", "")
    ffi = FFI()
    ffi.cdef(body + "\nextern struct fp_plugin fp_plugin;")
    return ffi, flags


@dataclass(frozen=True, slots=True)
class Declared:
    """A backend's struct fp_caps. `flags` are the FP_CAP_ names; times in nanoseconds, None = unbounded; lengths in octets."""

    flags: frozenset[str]
    ts_source: str
    queues: int
    min_frame: int
    max_frame: int
    ts_resolution: int
    ts_tolerance: int | None
    visibility: int


@dataclass(frozen=True, slots=True)
class Seen:
    """A packet as the backend gave it; `data` has its stripped tags put back."""

    data: bytes
    wirelen: int  # without stripped tags
    ts_ns: int
    ts_source: str
    tags: tuple[tuple[int, int], ...]
    segments: int
    interface: int
    queue: int
    seq: int | None


@dataclass(slots=True)
class Log:
    """What came of reading: the packets, and for each empty look the backend's `now` with the number of packets seen before, by queue."""

    seen: list[Seen] = field(default_factory=list)
    empty: list[tuple[int, int, int]] = field(default_factory=list)  # (queue, now_ns, packets seen)


class Source:
    """An open backend. Errors of the backend are OSError with its unformatted line."""

    def __init__(self, backend: str, interface: str, *, options: Mapping[str, str], queues: int = 1, snaplen: int = 0, flags: int = 0) -> None:
        self._ffi, self._flags = _contract()
        ffi = self._ffi
        self._library = ffi.dlopen(str(_PLUGINS / f"fp_{backend}.so"))
        self._ops = self._library.fp_plugin.backend
        fail = ffi.callback("int(char *, int, const char *)", self._fail)
        unused = ffi.callback("uint32_t(const struct fp_packet *)", lambda _: 1)
        none = ffi.callback("const char *(const struct fp_open_args *, const char *)", lambda *_: ffi.NULL)
        host = ffi.new("struct fp_host *", {"abi": 1, "size": ffi.sizeof("struct fp_host"), "flow_hash": unused, "fail": fail, "option": none})
        strings = [[ffi.new("char[]", each.encode()) for each in pair] for pair in options.items()]
        pairs = ffi.new("struct fp_option[]", [{"key": key, "value": value} for key, value in strings])
        name = ffi.new("char[]", interface.encode())
        args = ffi.new(
            "struct fp_open_args *",
            {
                "size": ffi.sizeof("struct fp_open_args"),
                "flags": flags,
                "input": name,
                "queues": queues,
                "snaplen": snaplen,
                "options": pairs,
                "noptions": len(strings),
            },
        )
        self._keep = [fail, unused, none, host, strings, pairs, name, args]
        self._err = ffi.new("char[]", ROOM)
        out, caps = ffi.new("struct fp_source **"), ffi.new("struct fp_caps *")
        self._check(self._ops.open(host, args, out, caps, self._err))
        self._source = out[0]
        unknown = int(ffi.cast("int64_t", -(2**63)))
        self.declared = Declared(
            frozenset(flag for flag, bit in self._flags.items() if caps.flags & bit),
            _TS_SOURCES[caps.ts_source],
            caps.queues,
            caps.min_frame,
            caps.max_frame,
            caps.ts_resolution,
            None if caps.ts_tolerance == unknown else caps.ts_tolerance,
            caps.visibility,
        )
        self._packets = ffi.new("struct fp_packet[]", _BURST)
        self._now = ffi.new("int64_t *")
        self.log = Log()

    def _fail(self, err: Any, code: int, format: Any) -> int:
        text = self._ffi.string(format)[: ROOM - 1]
        self._ffi.memmove(err, text + b"\0", len(text) + 1)
        return code

    def _check(self, code: int) -> int:
        if code < 0:
            raise OSError(-code, f"{os.strerror(-code)}: {self._ffi.string(self._err).decode()}")
        return code

    def read(self, wait_ms: int = 0, queue: int = 0) -> int:
        """One burst of a queue into the log; how many packets it had, -1 at the end."""
        n = self._ops.recv(self._source, queue, self._packets, _BURST, wait_ms, self._now, self._err)
        if n == -_ENODATA:
            return -1
        self._check(n)
        if n == 0:
            self.log.empty.append((queue, int(self._now[0]), len(self.log.seen)))
            return 0
        self.log.seen += [self._copy(self._packets[i]) for i in range(n)]
        if self._ops.release != self._ffi.NULL:
            self._ops.release(self._source, queue, self._packets, n)
        return int(n)

    def _copy(self, p: Any) -> Seen:
        parts = [bytes(self._ffi.buffer(p.data, p.len))]
        more = p.next
        while more != self._ffi.NULL:
            parts.append(bytes(self._ffi.buffer(more.data, more.len)))
            more = more.next
        data = b"".join(parts)
        assert len(data) == p.caplen
        tags = tuple((p.tags[i].tpid, p.tags[i].tci) for i in range(p.ntags))
        stripped = b"".join(tpid.to_bytes(2, "big") + tci.to_bytes(2, "big") for tpid, tci in tags)
        source, seq = _TS_SOURCES[p.ts_source], None if p.seq == 2**64 - 1 else int(p.seq)
        return Seen(data[:12] + stripped + data[12:], p.wirelen, p.ts_ns, source, tags, p.segments or 1, p.interface, p.queue, seq)

    def drain(self) -> None:
        """Stops, and reads what is left of every queue until its end."""
        self._check(self._ops.stop(self._source, self._err))
        for queue in range(self.declared.queues):
            while self.read(10, queue) >= 0:
                pass

    def stats(self) -> tuple[int, int | None]:
        """Frames received and dropped; None if unknown."""
        stats = self._ffi.new("struct fp_stats *")
        self._check(self._ops.stats(self._source, stats))
        return int(stats.received), None if stats.dropped == 2**64 - 1 else int(stats.dropped)

    def close(self) -> None:
        """Gives everything back."""
        self._ops.close(self._source)


_ENODATA = 61


@contextmanager
def source(backend: str, interface: str, **arguments: Any) -> Iterator[Source]:
    """An open backend that does not outlive the block."""
    it = Source(backend, interface, **arguments)
    try:
        yield it
    finally:
        it.close()
