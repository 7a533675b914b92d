"""The verdict on each claim of a paper, from the checks it is made of."""

from __future__ import annotations

from typing import Any

from reprune.analysis.checks import KINDS
from reprune.analysis.evidence import FAILS, HOLDS, UNDECIDED, Part, undecided
from reprune.analysis.names import runs_in_words
from reprune.analysis.samples import Undecided
from reprune.analysis.unit import Unit
from reprune.analysis.wording import basis, figures, sentence


def check_claims(unit: Unit) -> list[dict[str, Any]]:
    """Every claim with its verdict and its checks, ready for JSON.

    A claim, and a check, ``fails`` if one of its parts fails, else is ``undecided`` if one is, else
    ``holds``. A check repeats the estimate of the part its verdict hangs on, the least favourable one.
    """
    return [_claim(unit, claim) for claim in unit.claims()]


def _claim(unit: Unit, claim: dict[str, Any]) -> dict[str, Any]:
    checks = [_check(unit, check) for check in claim["checks"]]
    return {
        "id": claim["id"],
        "statement": claim["statement"],
        "source": claim["source"],
        "caveat": claim.get("caveat"),
        "explanation": claim.get("explanation"),
        "verdict": _together([check["verdict"] for check in checks]),
        "checks": checks,
    }


def _check(unit: Unit, check: dict[str, Any]) -> dict[str, Any]:
    try:
        parts = KINDS[check["kind"]](unit, check)
    except Undecided as reason:
        parts = [undecided("", reason)]
    overall = _together([part.verdict for part in parts])
    decisive = min((part for part in parts if part.verdict == overall), key=lambda part: part.margin)
    return {
        "kind": check["kind"],
        "sentence": sentence(unit, check),
        "check": check,
        **_part(check, decisive),
        "parts": [_part(check, part) for part in parts],
    }


def _part(check: dict[str, Any], part: Part) -> dict[str, Any]:
    return {
        "where": part.where,
        "verdict": part.verdict,
        "what": part.what,
        "estimate": part.estimate,
        "low": part.low,
        "high": part.high,
        "threshold": part.threshold,
        "bound": part.bound,
        "unit": part.unit,
        "items": part.items,
        "seeds": part.seeds,
        "runs": runs_in_words(part.seeds) if part.seeds else None,
        "reason": part.reason,
        "figures": figures(part),
        "basis": basis(check, part),
    }


def _together(verdicts: list[str]) -> str:
    return next((verdict for verdict in (FAILS, UNDECIDED) if verdict in verdicts), HOLDS)
