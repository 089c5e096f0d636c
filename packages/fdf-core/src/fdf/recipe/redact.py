"""Hides credentials: recipes are stored in manifests and shown in errors, and neither may hold a secret."""

from __future__ import annotations

import re
from typing import Any

HIDDEN = "***"

# `token` alone is a credential; `max_tokens`, `tokenizer` and `pad_token` are not.
_SECRET_KEY = re.compile(
    r"(?:^|[_-])(?:secret|password|passwd|passphrase|credentials?|(?:api|access|private|secret|account)[_-]?keys?"
    r"|(?:auth|access|api|hf|hub|session|refresh|bearer|security)[_-]?token)(?:$|[_-])|^token$|^authorization$",
    re.IGNORECASE,
)
_IN_URL = re.compile(r"(?P<before>\b[a-z][a-z0-9+.-]*://)(?P<secret>[^/\s@\"']+)(?P<after>@)", re.IGNORECASE)
_IN_QUERY = re.compile(
    r"(?P<before>[?&](?:[\w-]*(?:signature|token|secret|password|credential|api_?key|access_?key)|sig|key)=)"
    r"(?P<secret>[^&\s\"']+)(?P<after>)",
    re.IGNORECASE,
)
_IN_LINE = re.compile(r"""(?P<key>[\w-]+)["']?\s*[:=]\s*(?P<value>"[^"]*"|'[^']*'|[^\s,}{]+)""")


def is_secret(key: str) -> bool:
    """Say whether a key's value is a credential, by its name.

    >>> [is_secret(k) for k in ("token", "hf_token", "AWS_SECRET_ACCESS_KEY", "max_tokens", "pad_token")]
    [True, True, True, False, False]
    """
    return _SECRET_KEY.search(key) is not None


def redact(value: Any) -> Any:
    """Return JSON values with every credential replaced by `***`: by the name of its key, or inside a URL."""
    if isinstance(value, dict):
        return {k: HIDDEN if v is not None and is_secret(str(k)) else redact(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [redact(v) for v in value]
    if isinstance(value, str):
        return _IN_QUERY.sub(rf"\g<before>{HIDDEN}", _IN_URL.sub(rf"\g<before>{HIDDEN}\g<after>", value))
    return value


def mask_line(line: str) -> str:
    """Return a line of a recipe with credentials covered by as many asterisks, so that columns still fit."""
    for pattern in (_IN_URL, _IN_QUERY):
        line = pattern.sub(lambda m: m["before"] + "*" * len(m["secret"]) + m["after"], line)
    for match in _IN_LINE.finditer(line):
        if is_secret(match["key"]):
            start, end = match.span("value")
            line = line[:start] + "*" * (end - start) + line[end:]
    return line
