"""The process that keeps a Ray cluster of one node for as long as its driver lives, and not a moment longer.

Ray can start a cluster from the driver itself, but then moves the driver into another process group (Ctrl-C in a
terminal no longer reaches it below `make` or a script) and leaves its files behind when the driver is killed. Here the
driver's death is only the end of a pipe: the cluster is shut down in order, and its folder removed.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

LOOK_ROUND = 1.0
MIB = 1 << 20


def main(answers: int, *, cpus: int, object_store: int) -> None:
    """Start a cluster, tell its address over a descriptor, and end it when stdin or the driver does."""
    driver = os.getppid()
    # Paths of sockets may have 107 characters, and Ray's names take about 80 of them.
    folder = tempfile.mkdtemp(prefix="fdf-ray-", dir="/tmp" if Path("/tmp").is_dir() else None)  # noqa: S108
    try:
        _tell(answers, **_start(folder, cpus=cpus, object_store=object_store))
        while os.getppid() == driver:
            ready, _, _ = select.select([0], [], [], LOOK_ROUND)
            if ready and not os.read(0, 1):
                break
    finally:
        import ray

        # Between here and the end nothing may interrupt: what is not shut down now stays.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


def _start(folder: str, *, cpus: int, object_store: int) -> dict[str, str]:
    import ray

    try:
        context: Any = ray.init(
            address="local",
            num_cpus=cpus,
            object_store_memory=object_store,
            include_dashboard=False,
            log_to_driver=False,
            configure_logging=False,
            _temp_dir=folder,
        )
    except Exception:  # noqa: BLE001 (whatever it is, the driver must hear of it)
        return {"error": traceback.format_exc()}
    # Ray decides here, and nowhere else, whether its processes ask each other for a token.
    return {"address": context.address_info["address"], "auth": os.environ.get("RAY_AUTH_MODE", "")}


def _tell(answers: int, **said: str) -> None:
    with os.fdopen(answers, "w") as out:
        json.dump(said, out)


if __name__ == "__main__":
    main(int(sys.argv[1]), cpus=int(sys.argv[2]), object_store=int(sys.argv[3]))
