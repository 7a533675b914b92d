"""Identity of runs and inputs: canonical JSON of all that can change a number, and its hash."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any


def canonical(content: Any) -> str:
    """JSON text that is equal for equal content: sorted keys, no spaces, no NaN.

    Raises ValueError for NaN or infinity, TypeError for what JSON cannot hold.
    """
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)


def digest(content: Any, length: int = 12) -> str:
    """The first ``length`` hex characters of the SHA-256 of the canonical text."""
    return hashlib.sha256(canonical(content).encode()).hexdigest()[:length]


def identify(slug: str, content: Any) -> str:
    """A readable slug and 12 hex characters: ``wanda-smollm2-s50-0a1b2c3d4e5f``."""
    clean = re.sub(r"[^a-z0-9.]+", "-", slug.lower()).strip("-")
    return f"{clean}-{digest(content)}"


def without_defaults(values: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """``values`` less those equal to their default, so that a new setting leaves old identities alone."""
    return {key: value for key, value in values.items() if key not in defaults or defaults[key] != value}


def stream_seed(*parts: Any) -> int:
    """A 63-bit seed of a random stream, from what the stream is for: never from order or time."""
    text = canonical(list(parts)).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 1
