"""Whose answers a judge compares: pairs of rows of an experiment, and who the judge is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from reprune.plan.grid import Grid, Row, Run, unit_name
from reprune.plan.identity import identify
from reprune.plan.inputs import Model
from reprune.plan.problems import nearest
from reprune.plan.protocols import ANSWERS, Suite
from reprune.plan.recovery import Recovery
from reprune.plan.source import Source

LIKELIHOOD, LANGUAGE_MODEL = "likelihood", "language_model"
KINDS = (LIKELIHOOD, LANGUAGE_MODEL)  # the judges of reprune.evaluation.judge


@dataclass(frozen=True)
class Judge:
    """A judge of one kind; ``model`` is the language model that is asked, by default the compressed one."""

    kind: str
    model: Model | None = None

    @property
    def name(self) -> str:
        return self.model.name if self.model else self.kind

    @property
    def title(self) -> str:
        """How it is called wherever a win rate is shown; the papers' judge, GPT-4, is none of these."""
        if self.model:
            return f"{self.model.title}, asked to choose: not GPT-4"
        return "likelihood under the source model, a stand-in: not GPT-4"


@dataclass(frozen=True)
class Judgement:
    """A comparison of the answers of two runs to the prompts of ``suite``.

    ``model`` is the one that decides; ``group`` names the evaluations that hold the answers.
    """

    judge: Judge
    left: Run
    right: Run
    suite: Suite
    group: str

    @property
    def model(self) -> Model:
        return self.judge.model or self.left.model

    @property
    def id(self) -> str:
        """By content: equal comparisons asked for by two experiments are made once."""
        content = {
            "judge": {"kind": self.judge.kind, "model": self.model.content},
            "left": self.left.id,
            "right": self.right.id,
            "suite": self.suite.content,
        }
        methods = f"{self.left.method.id}-against-{self.right.method.id}"
        return identify(f"{methods}-{self.left.model.name}-{self.judge.name}", content)

    @property
    def label(self) -> str:
        return f"{self.left.label} against {self.right.label} by {self.judge.name}"


@dataclass(frozen=True)
class Judged:
    """The comparisons of an experiment: its judge, the protocol of the answers, and pairs of labels."""

    judge: Judge
    protocol: str
    pairs: tuple[tuple[str, str], ...]
    judgements: tuple[Judgement, ...]


def read_judged(paper: Source, name: str, rows: list[Row], grid: Grid) -> Judged | None:
    """What experiment ``name`` of a paper has judged; None if nothing, or with every problem noted."""
    spec = paper.data["experiments"][name].get("judged")
    if spec is None:
        return None
    return _Reader(paper, name, rows, grid).read(spec)


@dataclass
class _Reader:
    paper: Source
    name: str
    rows: list[Row]
    grid: Grid

    def read(self, spec: dict[str, Any]) -> Judged | None:
        judge, protocol = self._judge(spec["judge"]), self._protocol()
        pairs = [pair for i, pair in enumerate(spec["pairs"]) if self._known(i, pair)]
        if judge is None or protocol is None or len(pairs) < len(spec["pairs"]):
            return None
        runs = [found for left, right in pairs for found in self._runs(left, right)]
        made = [self._judgement(judge, protocol, *found) for found in runs]
        return Judged(judge, protocol, tuple(map(tuple, pairs)), tuple(filter(None, made)))

    def _judge(self, given: str | dict[str, Any]) -> Judge | None:
        if isinstance(given, str):
            known = {key: value for key, value in self.grid.values.items() if key.endswith("judge")}
            if given[1:] not in known:
                hint = nearest(given[1:], known)
                self._note(f"judge is '{given}', which the scale does not define; {hint}", "judge")
                return None
            given = known[given[1:]]
        if given["kind"] == LIKELIHOOD:
            return Judge(LIKELIHOOD)
        model = self.grid.inputs.model(given["model"], self._where("judge"))
        if model and model.skip:
            self._note(f"{model.name} cannot be the judge: {model.skip}", "judge")
        return model and Judge(LANGUAGE_MODEL, model)

    def _protocol(self) -> str | None:
        """The name of the protocol whose answers are compared."""
        asked = self.paper.data["experiments"][self.name]["suites"]
        names = [suite if isinstance(suite, str) else suite["protocol"] for suite in asked]
        sources = self.grid.protocols.sources
        found = [name for name in names if name in sources and sources[name].data["suite"] == ANSWERS]
        if len(found) == 1:
            return found[0]
        every = [name for name, source in sources.items() if source.data["suite"] == ANSWERS]
        self._note(f"a judge compares the answers of one suite, found {len(found)}; {nearest('', every)}")
        return None

    def _known(self, number: int, pair: list[str]) -> bool:
        labels = self._labels()
        wrong = [label for label in pair if label not in labels]
        for label in wrong:
            self._note(f"no row is called '{label}'; {nearest(label, labels)}", "pairs", number)
        return not wrong

    def _labels(self) -> list[str]:
        """Of all rows, those included that could not be read, which is noted where they stand."""
        entries = self.paper.data["experiments"][self.name]["methods"]
        if entries == "all":
            return [row.label for row in self.rows]
        return [e if isinstance(e, str) else e.get("label", e["method"]) for e in entries]

    def _runs(self, left: str, right: str) -> list[tuple[Run, Run]]:
        """The runs to compare: of one model, of one target and seed where both rows have several."""
        runs = self.grid.runs
        return [
            (runs[a.run], runs[b.run])
            for a in self._called(left)
            for b in self._called(right)
            if a.run and b.run and a.model == b.model and self._alike(a, b)
        ]

    def _alike(self, left: Row, right: Row) -> bool:
        same = ((left.target, right.target), (left.seed, right.seed))
        several = (
            [len({getattr(row, key) for row in self._called(side.label)}) > 1 for side in (left, right)]
            for key in ("target", "seed")
        )
        return all(a == b or not all(many) for (a, b), many in zip(same, several, strict=True))

    def _called(self, label: str) -> list[Row]:
        return [row for row in self.rows if row.label == label]

    def _judgement(self, judge: Judge, protocol: str, left: Run, right: Run) -> Judgement | None:
        """None where the suite could not be read, which is noted where it stands."""
        requested = self.paper.data["experiments"][self.name].get("on_request")
        group = unit_name(self.paper.data, self.name) if requested else ""
        suite = next((suite for suite in left.groups[group].values() if suite.name == protocol), None)
        if suite is None:
            return None
        for run in (left, right):
            tuned = [how.prompt for how, _ in run.recoveries if isinstance(how, Recovery)][-1:]
            if tuned and tuned != [suite.content["prompt"]]:
                self._note(
                    f"{run.method.id} is tuned on the prompt '{tuned[0]}', {protocol} asks in that of "
                    f"'{suite.content['prompt']}'; set the recovery's `prompt`",
                    "pairs",
                )
        return Judgement(judge, left, right, suite, group)

    def _where(self, *keys: Any) -> str:
        return self.paper.where("experiments", self.name, "judged", *keys)

    def _note(self, problem: str, *keys: Any) -> None:
        self.grid.problems.add(self._where(*keys), problem)
