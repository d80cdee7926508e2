# SPDX-License-Identifier: Apache-2.0
"""The native core as a typed Python interface over the generated module `flowparity._core`."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NoReturn

from flowparity import _core
from flowparity.accounting import Accounting, StreamAccount
from flowparity.errors import FlowparityError, InputError, SystemFault, UnavailableError, UsageError
from flowparity.frame import Frame
from flowparity.harness.interfaces import Injection, Tier
from flowparity.profile import Profile

lib: Any = _core.lib
ffi: Any = _core.ffi

_TIERS = tuple(Tier)
_TS_SOURCES = ("capture", "hardware", "kernel", "software", "sync", "sender")

lib.fp_set_plugin_dir(str(Path(_core.__file__).parent / "plugins").encode())


@dataclass(frozen=True, slots=True)
class BackendCaps:
    """What a backend declares (struct fp_caps). Lengths in octets, times in nanoseconds."""

    tier: Tier
    exact_time: bool
    wire_length: bool
    drops_known: bool
    coalesces: bool
    splits: bool
    live: bool
    interface: bool
    stamps_sequence: bool
    loses_tags: bool
    ts_source: str
    queues: int
    min_frame: int
    max_frame: int
    ts_resolution: int
    ts_tolerance: int | None  # None = unbounded
    visibility: int


@dataclass(frozen=True, slots=True)
class BackendInfo:
    """One line of `flowparity backends`; `capabilities` is None when the backend does not work here."""

    name: str
    summary: str
    tier: Tier | None
    available: bool
    reason: str = ""
    remedy: str = ""
    capabilities: BackendCaps | None = None


@dataclass(frozen=True, slots=True)
class InjectorInfo:
    """A plug-in's transmit side. `rate_pps` is what it is known to reach, 0 = unknown."""

    name: str
    summary: str
    available: bool
    reason: str = ""
    remedy: str = ""
    exact_time: bool = False
    queues: int = 0
    min_frame: int = 0
    max_frame: int = 0
    rate_pps: int = 0


def _text(value: Any) -> str:
    return bytes(ffi.string(value)).decode("utf-8", "replace")


def _caps(c: Any) -> BackendCaps:
    def has(flag: int) -> bool:
        return bool(c.flags & flag)

    return BackendCaps(
        tier=_TIERS[c.tier],
        exact_time=has(lib.FP_CAP_EXACT_TIME),
        wire_length=has(lib.FP_CAP_WIRE_LENGTH),
        drops_known=has(lib.FP_CAP_DROPS_KNOWN),
        coalesces=has(lib.FP_CAP_COALESCES),
        splits=has(lib.FP_CAP_SPLITS),
        live=has(lib.FP_CAP_LIVE),
        interface=has(lib.FP_CAP_INTERFACE),
        stamps_sequence=has(lib.FP_CAP_STAMPS_SEQUENCE),
        loses_tags=has(lib.FP_CAP_LOSES_TAGS),
        ts_source=_TS_SOURCES[c.ts_source],
        queues=c.queues,
        min_frame=c.min_frame,
        max_frame=c.max_frame,
        ts_resolution=c.ts_resolution,
        ts_tolerance=None if c.ts_tolerance == lib.FP_NS_NONE else c.ts_tolerance,
        visibility=c.visibility,
    )


def _registry() -> list[tuple[str, str]]:
    lines = (lib.fp_registry_line(i) for i in range(lib.fp_registry_count()))
    return [(_text(line.name), _text(line.summary)) for line in lines]


def _probe(name: str, probe: Callable[[bytes, Any, Any], int], caps: Any) -> tuple[int, str, str]:
    """The result, the reason and the remedy; messages have the form "reason; remedy"."""
    error = ffi.new("char[]", lib.FP_ERRLEN)
    code = probe(name.encode(), caps, error)
    reason, _, remedy = _text(error).partition("; ")
    return code, reason, remedy


def backends() -> list[BackendInfo]:
    """Every backend of the registry, probed on this machine."""
    out = []
    for name, summary in _registry():
        caps = ffi.new("struct fp_caps *")
        code, reason, remedy = _probe(name, lib.fp_backend_probe, caps)
        if code == 0:
            known = _caps(caps)
            out.append(BackendInfo(name, summary, known.tier, True, capabilities=known))
        elif code != -errno.EOPNOTSUPP:
            out.append(BackendInfo(name, summary, None, False, reason, remedy))
    return out


def injectors() -> list[InjectorInfo]:
    """Every plug-in of the registry that can transmit, probed on this machine."""
    out = []
    for name, summary in _registry():
        caps = ffi.new("struct fp_injector_caps *")
        code, reason, remedy = _probe(name, lib.fp_injector_probe, caps)
        if code == 0:
            exact = bool(caps.flags & lib.FP_CAP_EXACT_TIME)
            out.append(InjectorInfo(name, summary, True, "", "", exact, caps.queues, caps.min_frame, caps.max_frame, caps.rate_pps))
        elif code != -errno.EOPNOTSUPP:
            out.append(InjectorInfo(name, summary, False, reason, remedy))
    return out


@dataclass(frozen=True, slots=True)
class RunConfig:
    """One run of the native exporter. `collectors` holds (format, numeric address, port), formats "5", "9" and "ipfix"; times are nanoseconds."""

    backend: str
    input: str
    profile: Profile = field(default_factory=Profile)
    collectors: tuple[tuple[str, str, int], ...] = ()
    workers: int = 1
    clock: str | None = "packet"  # packet, wall (S-TIM-4); None = wall if the opened source is live and no replay
    trailer: bool = False  # frames carry the replay trailer (docs/trailer.md)
    options: Mapping[str, str] = field(default_factory=dict)  # of the backend
    filter: str | None = None
    mtu: int = 1500  # of the export path, IP and UDP headers included
    ipfix_ns: bool = False
    log_assignment: bool = False
    seed: int | None = None  # of the table's hash; None = fixed under the packet clock, random under the wall clock
    batch: int = 128
    block: bool | None = None  # wait for room in the socket; None = under the packet clock only
    pace: int = 0  # datagrams per second and stream at most; 0 = unlimited
    sweep_budget: int = 0  # table regions swept per batch; 0 = as the clock asks (S-END-6)
    huge_pages: bool = True
    snaplen: int = 0
    promiscuous: bool = False
    busy_poll: bool = False
    first_sequence: int = 0  # of every stream and worker, so that a test can see it wrap


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run, finished or under way, says of itself. `error` is what ended the source early; everything before it was exported."""

    accounting: Accounting
    workers: tuple[Accounting, ...]
    assignment: tuple[tuple[int, ...], ...] | None
    final_clock_ns: int | None
    warnings: tuple[str, ...]
    cpu_seconds: float
    counters: dict[str, int]
    live: bool  # the source runs until it is stopped
    error: FlowparityError | None = None


_FORMATS = {"5": 5, "9": 9, "ipfix": 10}
_UNAVAILABLE = {errno.ENOPKG, errno.ELIBACC, errno.ELIBBAD, errno.ENOSYS, errno.EPERM, errno.ENODEV, errno.EOPNOTSUPP}
_UNAVAILABLE |= {
    errno.ENETDOWN,
    errno.EBUSY,
    errno.ERANGE,
    errno.EPROTO,
}  # of an interface: down, taken by another program, unfit; of a module: another version
_INPUT = {errno.ENOENT, errno.EACCES, errno.EISDIR, errno.EBADMSG, errno.EPROTONOSUPPORT, errno.ENXIO}
_SEQ_NONE = 2**64 - 1  # FP_SEQ_NONE


def _raise(code: int, message: str) -> NoReturn:
    raise _error(code, message)


def _error(code: int, message: str) -> FlowparityError:
    """The error of a -errno of the core: whose fault it is decides the class (see errors.py)."""
    number = -code
    if number in (errno.EINVAL, errno.E2BIG, errno.ENOTSUP):
        return UsageError(message)
    if number in _INPUT:
        return InputError(message)
    if number in _UNAVAILABLE:
        return UnavailableError(message)
    return SystemFault(message)


def _fill_profile(p: Any, profile: Profile) -> None:
    p.key_classic = profile.keys_tos_and_interface
    p.key_vlan = profile.keys_vlan
    p.interface_source = profile.input_interface is None
    p.input_interface = profile.input_interface or 0
    p.refuse = profile.on_full == "refuse"
    p.tos_mask = profile.tos_mask
    p.counter_bits = profile.counter_bits
    sampling = profile.sampling
    p.sampling = lib.FP_SAMPLE_ALL
    p.sampling_interval = 1
    if sampling is not None:
        p.sampling = lib.FP_SAMPLE_SYSTEMATIC if sampling.mode == "systematic" else lib.FP_SAMPLE_RANDOM
        p.sampling_interval = sampling.interval
        p.sampling_seed = sampling.seed
    p.cache_size = profile.cache_size
    p.template_packets = profile.template_packets
    p.template_seconds = profile.template_seconds
    p.idle_timeout = profile.idle_timeout
    p.active_timeout = profile.active_timeout
    p.tcp_end = -1 if profile.tcp_end is None else profile.tcp_end
    p.reorder = profile.reorder
    p.max_clock_step = profile.max_clock_step
    p.boot = -1 if profile.boot is None else profile.boot


def _account(a: Any, streams: Mapping[str, StreamAccount], dropped: int | None) -> Accounting:
    return Accounting(
        received=a.received,
        filtered=a.filtered,
        sampled_out=a.sampled_out,
        non_ip=a.non_ip,
        malformed=a.malformed,
        shed=a.shed,
        metered=a.metered,
        metered_packets=a.metered_packets,
        late=a.late,
        clock_steps=a.clock_steps,
        evicted=a.evicted,
        resident_packets=a.resident_packets,
        dropped=dropped,
        streams=streams,
    )


_STREAM_FIELDS = tuple(f.name for f in fields(StreamAccount))
_SUMMED = tuple(f.name for f in fields(Accounting) if f.name not in ("dropped", "streams"))


def _sum(workers: Sequence[Accounting], dropped: int | None) -> Accounting:
    names = workers[0].streams if workers else {}
    streams = {name: StreamAccount(**{f: sum(getattr(w.streams[name], f) for w in workers) for f in _STREAM_FIELDS}) for name in names}
    return Accounting(**{f: sum(getattr(w, f) for w in workers) for f in _SUMMED}, dropped=dropped, streams=streams)


def _stream_names(collectors: Sequence[tuple[str, str | None, int]]) -> list[str]:
    """A stream is called by its format; a second one of that format also by its collector."""
    names: list[str] = []
    for version, host, port in collectors:
        names.append(version if version not in names else f"{version}@{host}:{port}")
    return names


class Exporter:
    """The native exporter over one source. Opens it at once; use as a context manager.

    Raises UsageError, InputError, UnavailableError or SystemFault with the backend's one line.
    """

    def __init__(self, config: RunConfig) -> None:
        config.profile.check_formats(tuple(version for version, _, _ in config.collectors))
        if config.clock not in (None, "packet", "wall"):
            raise UsageError(f"clock: {config.clock!r} is neither packet nor wall")
        self._config = config
        self._open(config.input, ffi.NULL, list(config.collectors))

    @classmethod
    def _over_memory(cls, config: RunConfig, memory: Any, formats: Sequence[str]) -> Exporter:
        config.profile.check_formats(tuple(formats))
        self = cls.__new__(cls)
        self._config = config
        self._open("memory", memory, [(version, None, 0) for version in formats])
        return self

    def _open(self, source: str, memory: Any, collectors: Sequence[tuple[str, str | None, int]]) -> None:
        config = self._config
        self._names = _stream_names(collectors)
        self._keep: list[Any] = []
        self._run: Any = None
        # Of _run: `close` frees it, while others may ask. A signal handler may interrupt its own thread's hold.
        self._lock = threading.RLock()
        self._result: RunResult | None = None
        c = ffi.new("struct fp_config *")
        _fill_profile(c.profile, config.profile)
        c.backend = self._string(config.backend)
        c.input, c.memory = self._string(source), memory
        c.filter = self._string(config.filter) if config.filter is not None else ffi.NULL
        options = ffi.new("struct fp_option[]", len(config.options))
        for slot, (key, value) in zip(options, config.options.items(), strict=True):
            slot.key, slot.value = self._string(key), self._string(value)
        streams = ffi.new("struct fp_stream_config[]", len(collectors))
        for slot, (version, host, port) in zip(streams, collectors, strict=True):
            slot.format = _FORMATS[version]
            slot.host = ffi.NULL if host is None else self._string(host)
            slot.port = port
        c.options, c.noptions, c.streams, c.nstreams = options, len(config.options), streams, len(collectors)
        c.wall, c.wall_if_live, c.trailer = config.clock == "wall", config.clock is None, config.trailer
        c.ipfix_ns, c.log_assignment, c.huge = config.ipfix_ns, config.log_assignment, config.huge_pages
        c.block, c.block_unless_wall = bool(config.block), config.block is None
        c.seed, c.seed_by_clock = config.seed or 0, config.seed is None
        c.open_flags = (lib.FP_OPEN_PROMISCUOUS if config.promiscuous else 0) | (lib.FP_OPEN_BUSY_POLL if config.busy_poll else 0)
        for name in ("workers", "batch", "mtu", "pace", "sweep_budget", "snaplen", "first_sequence"):
            try:
                setattr(c, name, getattr(config, name))
            except OverflowError:
                raise UsageError(f"{name}: {getattr(config, name)} is out of range") from None
        self._keep += [c, options, streams]
        out = ffi.new("struct fp_run **")
        error = ffi.new("char[]", lib.FP_ERRLEN)
        code = lib.fp_run_open(c, out, error)
        if code:
            _raise(code, _text(error))
        self._run = out[0]

    def _string(self, text: str) -> Any:
        kept = ffi.new("char[]", os.fsencode(text))
        self._keep.append(kept)
        return kept

    def __enter__(self) -> Exporter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def capabilities(self) -> BackendCaps:
        """What was really obtained at open."""
        caps = ffi.new("struct fp_caps *")
        lib.fp_run_caps(self._run, caps)
        return _caps(caps)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user should know before the run, one line each."""
        out: list[str] = []
        while (line := lib.fp_run_warning(self._run, len(out))) != ffi.NULL:
            out.append(_text(line))
        return tuple(out)

    def run(self) -> RunResult:
        """Blocks until the source ends or `stop`, without the interpreter lock. A source that failed on the way is `RunResult.error`."""
        error = ffi.new("char[]", lib.FP_ERRLEN)
        code = lib.fp_run_loop(self._run, error)
        if code == -errno.EALREADY:
            raise UsageError(_text(error))
        self._result = self._collect(_error(code, _text(error)) if code else None, finished=True)
        return self._result

    def stop(self) -> None:
        """Asks a running `run` to end in good order; from any thread or signal handler."""
        with self._lock:
            if self._run is not None:
                lib.fp_run_stop(self._run)

    def snapshot(self) -> RunResult:
        """The accounts of this moment, from any thread; each worker's are those of its last batch. After `close` those of the end, UsageError without any."""
        return self._result if self._result is not None else self._collect(None, finished=False)

    def _collect(self, error: FlowparityError | None, *, finished: bool) -> RunResult:
        with self._lock:
            if self._run is None:
                raise UsageError("the exporter is closed and did not run")
            return self._accounts(error, finished)

    def _accounts(self, error: FlowparityError | None, finished: bool) -> RunResult:
        run, config = self._run, self._config
        stats = ffi.new("struct fp_stats *")
        lib.fp_run_source_stats(run, stats)
        known = self.capabilities.drops_known and stats.dropped != 2**64 - 1
        dropped = int(stats.dropped) if known else None
        account = ffi.new("struct fp_account *")
        streams = ffi.new("struct fp_stream_account[]", lib.FP_MAX_STREAMS)
        workers = []
        for index in range(config.workers):
            lib.fp_run_snapshot(run, index, account, streams)
            named = {name: StreamAccount(**{f: getattr(streams[i], f) for f in _STREAM_FIELDS}) for i, name in enumerate(self._names)}
            workers.append(_account(account, named, None))
        counters = self._xstats()
        cpu, clock, assignment = 0.0, None, None
        if finished:
            totals = ffi.new("struct fp_totals *")
            lib.fp_run_totals(run, totals)
            cpu = totals.cpu_ns / 1e9
            if config.trailer:
                counters |= {"trailers": totals.trailers, "strays": totals.strays, "lost": totals.lost, "doubled": totals.doubled}
            final = lib.fp_run_final_clock(run)
            clock = None if final == lib.FP_NS_NONE else int(final)
            assignment = self._assignment() if config.log_assignment else None
        return RunResult(_sum(workers, dropped), tuple(workers), assignment, clock, self.warnings, cpu, counters, self.capabilities.live, error)

    def _xstats(self) -> dict[str, int]:
        text = ffi.new("char[]", 65536)
        lib.fp_run_xstats(self._run, text, len(text))
        pairs = (line.partition("=") for line in _text(text).splitlines())
        return {name: int(value) for name, _, value in pairs if value.lstrip("-").isdigit()}

    def _assignment(self) -> tuple[tuple[int, ...], ...] | None:
        """The frames of each worker; None if the source cannot tell frames apart."""
        count = ffi.new("size_t *")
        out = []
        for index in range(self._config.workers):
            log = lib.fp_run_assignment(self._run, index, count)
            out.append(tuple(ffi.unpack(log, count[0])) if count[0] else ())
        return None if any(_SEQ_NONE in each for each in out) else tuple(out)

    def _datagrams(self, stream: int) -> list[bytes]:
        length = ffi.new("size_t *")
        out: list[bytes] = []
        for worker in range(self._config.workers):
            index = 0
            while (data := lib.fp_run_datagram(self._run, worker, stream, index, length)) != ffi.NULL:
                out.append(bytes(ffi.buffer(data, length[0])))
                index += 1
        return out

    def close(self) -> None:
        """Closes source and sockets; safe to call twice. Not while `run` runs."""
        with self._lock:
            run, self._run = self._run, None
            if run is not None:
                lib.fp_run_close(run)


def _memory(frames: Sequence[Frame], keep: list[Any]) -> Any:
    """The frames as the source of the backend `memory`; what it points to is added to `keep`."""
    packets = ffi.new("struct fp_packet[]", len(frames))
    keep.append(packets)
    for slot, frame in zip(packets, frames, strict=True):
        data = ffi.from_buffer(frame.data)
        keep.append(data)
        slot.data = data
        slot.len = slot.caplen = len(frame.data)
        slot.wirelen = max(frame.wirelen, len(frame.data))
        slot.link = frame.link
        slot.ts_ns = frame.ts_ns
        slot.interface = frame.interface
        slot.segments = frame.segments
        slot.seq = frame.index
        slot.ntags = len(frame.tags)
        for tag, (tpid, tci) in zip(slot.tags, frame.tags, strict=False):
            tag.tpid, tag.tci = tpid, tci
    memory = ffi.new("struct fp_memory *")
    memory.packets = packets
    memory.count = len(frames)
    keep.append(memory)
    return memory


def meter(
    frames: Sequence[Frame],
    profile: Profile,
    formats: Sequence[str],
    workers: int = 1,
    *,
    seed: int | None = None,
    batch: int = 128,
    sweep_budget: int = 0,
    ipfix_ns: bool = False,
    mtu: int = 1500,
    assignment: Sequence[int] | None = None,
    first_sequence: int = 0,
) -> tuple[dict[str, list[bytes]], RunResult]:
    """Meters frames inside this process: the datagrams of each format (worker after worker, in order) and the result.

    `assignment` names the worker of each frame; without it the flow hash decides.
    """
    keep: list[Any] = []
    memory = _memory(frames, keep)
    if assignment is not None:
        if len(assignment) != len(frames) or any(not 0 <= a < workers for a in assignment):
            raise UsageError("assignment: it must name one of the workers for every frame")
        queues = ffi.new("uint16_t[]", list(assignment))
        keep.append(queues)
        memory.assignment = queues
    config = RunConfig(
        "memory",
        "",
        profile,
        workers=workers,
        seed=seed,
        batch=batch,
        sweep_budget=sweep_budget,
        ipfix_ns=ipfix_ns,
        mtu=mtu,
        log_assignment=True,
        huge_pages=False,
        first_sequence=first_sequence,
    )
    with Exporter._over_memory(config, memory, formats) as exporter:
        result = exporter.run()
        return {version: exporter._datagrams(i) for i, version in enumerate(formats)}, result


_REASONS = {
    errno.EMSGSIZE: "longer than the link takes",
    errno.ERANGE: "shorter than the link takes",
    errno.ENODATA: "truncated in the capture",
    errno.EPROTOTYPE: "not Ethernet",
}


@dataclass(frozen=True, slots=True)
class InjectorCaps:
    """What an opened injector can do. Lengths in octets."""

    exact_time: bool
    queues: int
    min_frame: int
    max_frame: int
    rate_pps: int


class Player:
    """Plays captures or frames into an output over an injector plug-in. Opens nothing before `play`.

    `output` is what the injector's plug-in takes: an interface, a port, `pipe:NAME`.
    """

    def __init__(self, injector: str, output: str, options: Mapping[str, str] | None = None) -> None:
        self._injector = injector
        self._output = output
        self._options = dict(options or {})
        self._player: Any = None
        self._lock = threading.RLock()  # of _player, as in Exporter

    def play(
        self,
        source: Path | Sequence[Frame],
        *,
        trailer: bool = False,
        rate_pps: float | None = None,
        speed: float | None = None,
        timeout: float = 60.0,
        on_open: Callable[[InjectorCaps], None] | None = None,
    ) -> Injection:
        """Plays everything and waits until it has left; frames that cannot go are in `not_sent`, by reason.

        `rate_pps` sets an absolute schedule, `speed` plays the frames' own gaps so many times faster, neither sends as fast as it goes. `timeout` seconds
        without progress are a SystemFault. `on_open` is called when the output is open and nothing was sent yet. Raises the errors of the plug-in's open.
        """
        keep: list[Any] = []

        def string(text: str) -> Any:
            keep.append(ffi.new("char[]", os.fsencode(text)))
            return keep[-1]

        c = ffi.new("struct fp_play_config *")
        if isinstance(source, Path):
            c.backend, c.input = string("pcap"), string(str(source))
        else:
            c.backend, c.input, c.memory = string("memory"), string("memory"), _memory(source, keep)
        options = ffi.new("struct fp_option[]", len(self._options))
        for slot, (key, value) in zip(options, self._options.items(), strict=True):
            slot.key, slot.value = string(key), string(value)
        c.injector, c.output, c.options, c.noptions = string(self._injector), string(self._output), options, len(self._options)
        c.rate_pps, c.speed = rate_pps or 0, speed or 0
        c.timeout_ms = round(timeout * 1000)
        c.trailer = trailer
        out = ffi.new("struct fp_player **")
        error = ffi.new("char[]", lib.FP_ERRLEN)
        code = lib.fp_player_open(c, out, error)
        if code:
            _raise(code, _text(error))
        self._player = out[0]
        try:
            if on_open is not None:
                on_open(self._caps())
            result = ffi.new("struct fp_play_result *")
            code = lib.fp_player_play(self._player, result, error)
            if code:
                _raise(code, _text(error))
            return self._injection(result)
        finally:
            with self._lock:
                player, self._player = self._player, None
                lib.fp_player_close(player)

    def stop(self) -> None:
        """Ends a running `play`; from any thread or signal handler."""
        with self._lock:
            if self._player is not None:
                lib.fp_player_stop(self._player)

    def _caps(self) -> InjectorCaps:
        caps = ffi.new("struct fp_injector_caps *")
        lib.fp_player_caps(self._player, caps)
        return InjectorCaps(bool(caps.flags & lib.FP_CAP_EXACT_TIME), caps.queues, caps.min_frame, caps.max_frame, caps.rate_pps)

    def _injection(self, result: Any) -> Injection:
        if result.inside > 0:
            raise SystemFault(f"injector {self._injector}: {result.inside} frames were accepted but did not leave")
        reasons: dict[str, list[int]] = {}
        lost = lib.fp_player_not_sent(self._player)
        for i in range(result.not_sent):
            reason = _REASONS.get(lost[i].reason, os.strerror(lost[i].reason))
            reasons.setdefault(reason, []).append(lost[i].index)
        not_sent = {reason: tuple(indices) for reason, indices in reasons.items()}
        lost = None if result.lost == 2**64 - 1 else int(result.lost)
        return Injection(result.sent, not_sent, result.ns / 1e9, result.worst_lateness_ns, lost)


def append_trailer(data: bytes, wirelen: int, ts_ns: int, sequence: int) -> bytes:
    """The frame, padded, with the long replay trailer behind it (docs/trailer.md)."""
    room = ffi.new("uint8_t[]", max(len(data), 60) + 24)
    length = lib.fp_trailer_append(data, len(data), wirelen, ts_ns, sequence, room, len(room))
    if length == 0:
        raise UsageError(f"trailer: a frame of {len(data)} octets is longer than the 65535 that it can describe")
    return bytes(ffi.buffer(room, length))
