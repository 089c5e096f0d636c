"""Makes the environments that peers run in: one per list of pinned requirements, benchmarks/peers/<name>.txt."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

PEERS = Path(__file__).resolve().parent
ENVIRONMENTS = PEERS.parents[1] / ".fdf" / "peers"


def python_of(peer: str) -> Path:
    """Return the interpreter of a peer's environment; make it if it is absent or its requirements have changed."""
    requirements = PEERS / f"{peer}.txt"
    folder = ENVIRONMENTS / peer
    python = folder / "bin" / "python"
    stamp = folder / ".made-from"
    made_from = hashlib.sha256(requirements.read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == made_from:
        return python
    print(f"making {folder.relative_to(ENVIRONMENTS.parents[1])} from {requirements.name}", file=sys.stderr)
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)  # noqa: S603 (our own paths)
    # The list names everything, so nothing is resolved and nothing comes in that it does not name.
    install = [str(python), "-m", "pip", "install", "-qq", "--no-deps", "-r", str(requirements)]
    subprocess.run(install, check=True)  # noqa: S603 (our own paths)
    stamp.write_text(made_from)
    return python
