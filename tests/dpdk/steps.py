# SPDX-License-Identifier: Apache-2.0
"""Runs steps given as JSON, each an exporter run, and prints one JSON line for each: the process in which the tests of this directory meet DPDK."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from contextlib import ExitStack
from typing import Any

from flowparity import native
from flowparity.errors import FlowparityError


def run(step: dict[str, Any]) -> dict[str, Any]:
    """Opens a source, runs it to its end (or for `stop_after` seconds) and says what was received. `then` is a command to run once it is open."""
    config = native.RunConfig(
        backend=step.get("backend", "dpdk"),
        input=step["input"],
        workers=step.get("workers", 1),
        options=step.get("options", {}),
        trailer=step.get("trailer", False),
        snaplen=step.get("snaplen", 0),
        filter=step.get("filter"),
        log_assignment=True,
        huge_pages=False,
    )
    with ExitStack() as stack:
        exporter = stack.enter_context(native.Exporter(config))
        if "then" in step:
            subprocess.run(step["then"], check=True)
        if "stop_after" in step:
            timer = threading.Timer(step["stop_after"], exporter.stop)
            timer.start()
            stack.callback(timer.cancel)
        result = exporter.run()
        caps = exporter.capabilities
        account = result.accounting
        return {
            "received": account.received,
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
