"""Peak memory of Wanda on 30 layers against 6 layers of the same widths, each in a process of its own.

python benchmarks/memory_depth.py
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from common import scratch

FACTS = {
    "architecture": "llama",
    "hidden_size": 576,
    "intermediate_size": 1536,
    "heads": 9,
    "kv_heads": 3,
    "head_dim": 64,
    "vocab_size": 49152,
    "tied_embeddings": True,
    "parameters": 0,
}
WINDOWS, LENGTH, LIMIT = 32, 128, 1.25


def make(layers: int, folder: Path) -> None:
    """A random model of the width of SmolLM2-135M."""
    from reprune.models.sources import fetch_model

    folder.mkdir()
    fetch_model(
        {"random": {"seed": 0, "max_position_embeddings": 2048}},
        "float16",
        {**FACTS, "layers": layers},
        folder,
    )


def prune(folder: Path) -> None:
    """Run Wanda over the folder and print the process's peak memory in MB."""
    import torch

    from reprune.calibration.walk import Walk
    from reprune.discovery import load_method
    from reprune.method import Target
    from reprune.models.folder import ModelFolder
    from reprune.plan.plan import ROOT
    from reprune.records.provenance import peak_rss_mb
    from reprune.records.store import Store

    torch.set_num_threads(1)
    entry = load_method(ROOT / "papers" / "wanda" / "method.py")
    tokens = torch.randint(
        0, FACTS["vocab_size"], (WINDOWS, LENGTH), generator=torch.Generator().manual_seed(0)
    )
    walk = Walk(ModelFolder(folder), Store(folder / "store"), {"run": "memory"}, torch.float16, 8)
    walk.prune_blocks(entry.cls(entry.cls.Settings(), Target.unstructured(0.5)), tokens)
    (folder / "checkpoint").mkdir()
    walk.write_checkpoint(folder / "checkpoint")
    print(peak_rss_mb())


def peak(layers: int, root: Path) -> float:
    """Peak MB of a fresh process that prunes a model of so many layers."""
    folder = root / str(layers)
    for step in ("make", "prune"):
        done = subprocess.run(
            [sys.executable, __file__, step, str(layers), str(folder)],
            check=True,
            capture_output=True,
            text=True,
        )
    return float(done.stdout.split()[-1])


def main() -> None:
    root = scratch()
    shallow, deep = peak(6, root), peak(30, root)
    shutil.rmtree(root)
    print(f"6 layers {shallow:.0f} MB, 30 layers {deep:.0f} MB: ratio {deep / shallow:.3f} (limit {LIMIT})")


if __name__ == "__main__":
    if len(sys.argv) == 4:
        step, layers, folder = sys.argv[1:]
        make(int(layers), Path(folder)) if step == "make" else prune(Path(folder))
    else:
        main()
