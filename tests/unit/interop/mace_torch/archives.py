"""Archives as torch writes them, made by hand."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping


def archive(pickle: bytes, members: Mapping[str, bytes] | None = None, compression: int = zipfile.ZIP_STORED) -> bytes:
    """A zip file with this pickle and these further members."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        file.writestr("archive/data.pkl", pickle)
        for name, content in (members or {}).items():
            file.writestr(f"archive/{name}", content)
    return buffer.getvalue()
