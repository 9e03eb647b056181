"""The command line: `minidalle generate`, `edit`, `describe`, `train`, `finetune`, `evaluate`,
`compare`, `data`, `grade`.

An error the user can fix ends in one line and exit status 2; Ctrl-C and SIGTERM end a training at
the next step, saved, with 130 and 143.
"""

import argparse
import signal
import sys

from minidalle.cli.streams import repair_streams


def parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    from minidalle.cli import (
        compare,
        data,
        describe,
        edit,
        evaluate,
        finetune,
        generate,
        grade,
        train,
    )  # with torch: two seconds

    top = argparse.ArgumentParser(prog="minidalle", description="Text becomes pictures.")
    commands = top.add_subparsers(dest="command", required=True)
    for module in (generate, edit, describe, train, finetune, evaluate, compare):
        command = module.add_parser(commands)
        command.add_argument("--device", help="cpu, cuda, cuda:1, mps (cuda if there is one)")
    data.add_parser(commands)
    grade.add_parser(commands)
    return top


def main(argv: list[str] | None = None) -> int:
    """Run a command; 0 when all went well."""
    # Ctrl-C while torch is imported ends the process at once, without a traceback.
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    repair_streams()
    from minidalle.cli.errors import exit_status

    argv = sys.argv[1:] if argv is None else argv
    if argv[:2] == ["check", "progress"]:  # what `grade` was called before
        argv = ["grade", *argv[2:]]
    args = parser().parse_args(argv)
    signal.signal(signal.SIGINT, before)
    return exit_status(lambda: args.run(args))
