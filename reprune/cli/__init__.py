"""The command line: a look at papers, methods and plans, a new method's folder, a check of the machine.

Snakemake is the main door; nothing here computes a result of a paper. Every command is instant but
``doctor`` and ``lm_eval``, which alone import torch.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from reprune.cli.text import Refused
from reprune.plan.problems import ConfigError


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, 1 for what a command found, 2 for what cannot be done."""
    parser = make_parser()
    arguments = sys.argv[1:] if arguments is None else arguments
    handed_over = arguments[:1] == ["lm_eval"]
    given = parser.parse_args(arguments[:1] if handed_over else arguments)
    given.others = arguments[1:]
    if "run" not in given:
        parser.print_help()
        return 0
    try:
        code = given.run(given)
        sys.stdout.flush()
        return code
    except (Refused, ConfigError) as error:
        print(error, file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader, such as `head`, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands; each leaves its function in ``run``."""
    parser = Parser(
        prog="reprune",
        description="A reproducible benchmark of language-model pruning papers. "
        "Results are made by Snakemake: snakemake --cores all",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    _command(commands, "papers", _papers, "the papers, what each shows and how to run it")
    methods = _command(commands, "methods", _methods, "the methods, or the settings of one")
    methods.add_argument("name", nargs="?", metavar="NAME", help="a method; left out: all of them")
    show = _command(
        commands,
        "show",
        _show,
        "what a paper's run will do, its tables if it ran; or how two of its rows differ",
    )
    show.add_argument("unit", metavar="UNIT", help="a paper, or one of its targets made on request")
    show.add_argument("left", nargs="?", metavar="LEFT", help="a row to compare: its label or a run id")
    show.add_argument("right", nargs="?", metavar="RIGHT", help="the row to compare it with")
    show.add_argument("--task", metavar="T", help="compare on this task alone, or on the average")
    show.add_argument("--scale", metavar="S", help="smoke, local, full or paper (default: the configured)")
    new = _command(commands, "new", _new, "write the folder of a new method, a stub that works")
    new.add_argument("name", metavar="NAME", help="small letters, digits and underscores")
    new.add_argument("--folder", type=Path, metavar="DIR", help="where papers lie (default: papers)")
    _command(commands, "doctor", _doctor, "whether this machine is ready (exit code 1: it is not)")
    _command(commands, "lm_eval", _lm_eval, "lm-eval's own command line with the model `reprune`")
    compare = _command(commands, "compare", _compare, "whether a run gives a reference's numbers")
    compare.add_argument("new", type=Path, metavar="NEW", help="a records.csv, or the folder that has it")
    compare.add_argument(
        "reference",
        type=Path,
        nargs="?",
        metavar="REFERENCE",
        help="the same of the reference (default: its place under results/reference)",
    )
    return parser


def _command(
    commands: argparse._SubParsersAction, name: str, run: Callable[[argparse.Namespace], int], help: str
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=help, description=help[0].upper() + help[1:] + ".")
    parser.set_defaults(run=run)
    return parser


def _papers(given: argparse.Namespace) -> int:
    from reprune.cli.papers import paper_lines

    print("\n".join(paper_lines()))
    return 0


def _methods(given: argparse.Namespace) -> int:
    from reprune.cli.methods import method_lines, overview_lines

    print("\n".join(overview_lines() if given.name is None else method_lines(given.name)))
    return 0


def _show(given: argparse.Namespace) -> int:
    from reprune.cli.show import difference_lines, show_lines

    if given.right is not None:
        lines = difference_lines(given.unit, given.scale, given.left, given.right, given.task)
    elif given.left is None and given.task is None:
        lines = show_lines(given.unit, given.scale)
    else:
        raise Refused("a comparison needs two rows: reprune show UNIT LEFT RIGHT [--task T]")
    print("\n".join(lines))
    return 0


def _new(given: argparse.Namespace) -> int:
    from reprune.cli.new import new_method, next_steps

    print("\n".join(next_steps(new_method(given.name, given.folder))))
    return 0


def _doctor(given: argparse.Namespace) -> int:
    from reprune.cli.doctor import examine

    findings = examine()
    print("\n".join(map(str, findings)))
    return int(any(finding.broken for finding in findings))


def _lm_eval(given: argparse.Namespace) -> int:
    from reprune.cli.lm_eval import hand_over

    return hand_over(given.others)


def _compare(given: argparse.Namespace) -> int:
    from reprune.cli.compare import compare

    return compare(given.new, given.reference)
