"""From scratch: a regular model of the asked size with random weights, to compare pruned models with.

Not a paper of its own. LLM-Pruner (arXiv 2305.11627, Table 9) and other papers on pruning compare with a
model of equal size that inherits nothing.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from papers.from_scratch.sizes import most_removed, size_for, widths
from reprune.lazy import LazyModule, torch
from reprune.method import ModelFacts, StructuralMethod, Target, Unsupported

if TYPE_CHECKING:
    from reprune.calibration.subject import Subject

transformers = LazyModule("transformers")

FAMILIES = ("llama", "mistral", "qwen2")


class FromScratch(StructuralMethod):
    """A narrower model of the same depth with random weights: noise, until recovery trains it in full."""

    kinds = ("width",)
    requires_calibration = False

    @classmethod
    def supports(cls, facts: ModelFacts, target: Target, settings: object) -> Unsupported | None:
        if facts.architecture not in FAMILIES:
            known = ", ".join(FAMILIES)
            return Unsupported(f"counts models built as Llama ({known}), not {facts.architecture}")
        if target.structural and not size_for(facts, target.sparsity):
            least, most = widths(facts).start, most_removed(facts)
            return Unsupported(
                f"at the least hidden size, {least}, {most:.1%} of the parameters are gone",
                f"{int(100 * most)}% of parameters",
            )
        return super().supports(facts, target, settings)

    def compress(self, subject: Subject) -> None:
        hidden, inner = size_for(subject.facts, self.target.sparsity)
        subject.notes |= {"hidden_size": hidden, "intermediate_size": inner}
        config = copy.deepcopy(subject.model.config)
        config.hidden_size, config.intermediate_size = hidden, inner
        config.head_dim = subject.facts.head_dim  # else it would follow the hidden size
        seed = torch.randint(2**63 - 1, (), generator=subject.generator).item()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        subject.model = model.eval().requires_grad_(False)
