# SPDX-License-Identifier: Apache-2.0
"""Runs steps given as JSON, each an exporter run, and prints one JSON line for each: the process in which the tests of this directory meet DPDK."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from dataclasses import fields
from typing import Any

from flowparity import native
from flowparity.decode import Decoder, Normaliser
from flowparity.errors import FlowparityError
from flowparity.flow import FlowRecord

RECORD = [each.name for each in fields(FlowRecord) if each.name != "worker"]


def heard(collector: socket.socket) -> list[str]:
    """The flows in what the collector has received, in an order of their own."""
    decoder, normaliser, flows = Decoder(), Normaliser(), []
    collector.setblocking(False)
    while True:
        try:
            payload, source = collector.recvfrom(65536)
        except BlockingIOError:
            return sorted(flows)
        flows += [repr([getattr(flow, name) for name in RECORD]) for flow in normaliser.flows(decoder.feed(payload, str(source)))]


def run(step: dict[str, Any]) -> dict[str, Any]:
    """Opens a source, runs it to its end (or for `stop_after` seconds) and says what was received. `then` is a command to run once it is open."""
    collector = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    collector.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    collector.bind(("127.0.0.1", 0))
    config = native.RunConfig(
        backend=step.get("backend", "dpdk"),
        input=step["input"],
        workers=step.get("workers", 1),
        options=step.get("options", {}),
        trailer=step.get("trailer", False),
        snaplen=step.get("snaplen", 0),
        filter=step.get("filter"),
        log_assignment="bench" not in step,
        huge_pages=False,
        ipfix_ns=True,
        collectors=(("ipfix", "127.0.0.1", collector.getsockname()[1]),),
    )
    with collector, ExitStack() as stack:
        exporter = stack.enter_context(native.Exporter(config))
        if "then" in step:
            subprocess.run(step["then"], check=True)
        if "stop_after" in step:
            timer = threading.Timer(step["stop_after"], exporter.stop)
            timer.start()
            stack.callback(timer.cancel)
        begin = time.monotonic()
        result = exporter.run()
        wall = time.monotonic() - begin
        caps = exporter.capabilities
        account = result.accounting
        return {
            "flows": heard(collector),
            "received": account.received,
            "cpu": result.cpu_seconds,
            "wall": wall,
            "metered": account.metered,
            "non_ip": account.non_ip,
            "malformed": account.malformed,
            "dropped": account.dropped,
            "broken": account.broken(),
            "assignment": result.assignment,
            "clock": result.final_clock_ns,
            "counters": result.counters,
            "tier": caps.tier,
            "queues": caps.queues,
            "splits": caps.splits,
            "max_frame": caps.max_frame,
            "error": None if result.error is None else [type(result.error).__name__, str(result.error)],
        }


def main() -> None:
    """The steps, in order."""
    for step in json.loads(sys.argv[1]):
        if "plugins" in step:
            native.lib.fp_set_plugin_dir(step["plugins"].encode())
        try:
            answer = run(step)
        except FlowparityError as error:
            answer = {"error": [type(error).__name__, str(error)], "exit": error.exit_code}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
