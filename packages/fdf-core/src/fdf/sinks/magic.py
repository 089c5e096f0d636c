"""Knows the format of bytes by how they begin."""

from __future__ import annotations

_STARTS = (
    (b"\xff\xd8\xff", "jpg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"II*\x00", "tif"),
    (b"MM\x00*", "tif"),
    (b"BM", "bmp"),
    (b"fLaC", "flac"),
    (b"OggS", "ogg"),
    (b"ID3", "mp3"),
    (b"\xff\xfb", "mp3"),
    (b"\xff\xf3", "mp3"),
    (b"\x1aE\xdf\xa3", "webm"),
    (b"\x93NUMPY", "npy"),
    (b"%PDF-", "pdf"),
)


def extension_of(data: bytes) -> str:
    """Return the usual extension for bytes in a well-known format, `bin` for others.

    >>> extension_of(b"GIF89a...")
    'gif'
    """
    for start, extension in _STARTS:
        if data.startswith(start):
            return extension
    if data[:4] == b"RIFF":
        return {b"WEBP": "webp", b"WAVE": "wav", b"AVI ": "avi"}.get(data[8:12], "bin")
    if data[4:8] == b"ftyp":
        return {b"M4A ": "m4a", b"qt  ": "mov"}.get(data[8:12], "mp4")
    return "bin"
