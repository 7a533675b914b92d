"""Reading the ``recovery`` of a method entry: one, or a list of which each goes on from the one before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from reprune.discovery import MethodEntry
from reprune.plan.inputs import Inputs, Instructions, Model, Parallel
from reprune.plan.mixture import MixtureSpec, find_mixture
from reprune.plan.pretraining import Pretraining
from reprune.plan.problems import Problems, nearest
from reprune.plan.recovery import LACKS, Recovery
from reprune.plan.settings import read_fields
from reprune.plan.training import PlannedRecovery, Training
from reprune.plan.translating import Translating

KINDS: dict[str, type[Training]] = {
    **dict.fromkeys(LACKS, Recovery),
    "pretrain": Pretraining,
    "translate": Translating,
}


@dataclass(frozen=True)
class Reader:
    """Reads recoveries for one method on one model.

    ``values`` are the scale's, ``mixture`` is the experiment's or, with a dollar sign, the name of one of
    these. Every problem is noted at ``where``.
    """

    values: dict[str, Any]
    inputs: Inputs
    model: Model
    method: MethodEntry
    mixture: str | dict[str, Any]
    where: str
    problems: Problems

    def read(self, entry: dict[str, Any] | list[dict[str, Any]]) -> tuple[PlannedRecovery, ...] | None:
        """The recoveries in their order; None with every problem noted."""
        read = [self._one(given) for given in (entry if isinstance(entry, list) else [entry])]
        return None if None in read else tuple(read)

    def _one(self, given: dict[str, Any]) -> PlannedRecovery | None:
        kind = str(given.get("kind", Recovery.kind))
        if kind not in KINDS:
            self._note(f"setting 'kind' of recovery is '{kind}'; expected {nearest(kind, KINDS)}")
            return None
        how = self._settings(KINDS[kind], given)
        if how and self.model.parallel and how.file != "parallel":
            self._note(
                f"recovery of kind '{kind}' trains language models, {self.model.name} is a translation model"
            )
            return None
        data = how and how.data_from(self, given)
        if data is None:
            return None
        for fault in how.faults(data, self.model, self.method):
            self._note(fault)
        return PlannedRecovery(how, data)

    def _settings(self, cls: type[Training], given: dict[str, Any]) -> Training | None:
        """The settings of a recovery above the scale's sizes, which are those that ``sizes`` names."""
        own = {key: value for key, value in given.items() if key not in cls.names}
        sizes = {name: found for name, found in self.values.items() if name.endswith(cls.noun)}
        usual = f"${cls.noun}"
        named = str(given.get("sizes", usual))
        if named[1:] not in sizes and named != usual:
            self._note(f"sizes is '{named}', which the scale does not define; {nearest(named[1:], sizes)}")
        read = {**sizes.get(named[1:], {}), **own}
        settings = read_fields(cls, read, "recovery", self.where, self.problems)
        if settings is None:
            return None
        for what, names in settings.lacks.items():
            idle = [name for name in names if name in own]
            if idle:
                self._note(f"{settings.title} has no {what}, found {', '.join(idle)}")
        if clash := settings.clash(own):
            self._note(clash)
        return settings

    def instructions(self, name: str) -> Instructions | None:
        """The instruction data ``name``."""
        return self.inputs.instructions(name, self.where)

    def drawn(self, named: str | dict[str, Any] | None) -> MixtureSpec | None:
        """The mixture that a recovery names, else its experiment's."""
        wanted = named or self.mixture
        return find_mixture(wanted, self.values, self.model, self.inputs, self.where, self.problems)

    def parallel(self) -> Parallel | None:
        """The parallel text of the model."""
        if self.model.parallel is None:
            self._note(f"{self.model.name} is no translation model and has no parallel text to be trained on")
        return self.model.parallel

    def _note(self, problem: str) -> None:
        self.problems.add(self.where, problem)
