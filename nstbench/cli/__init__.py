"""The command line: ``nstbench run | train | images | weights | compare | report | verify | doctor``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from nstbench import __version__
from nstbench.cli.encoding import print_anything, use_utf8
from nstbench.errors import FULL, StorageError, UserError, did_you_mean

# Each is a module of this package with `add_parser` and `main`. Hydra parses the arguments of run and train.
_COMMANDS = ("images", "weights", "compare", "report", "verify", "doctor")

_EPILOG = """\
first steps:
  nstbench run                                        a demo that needs no files and no network
  nstbench run content=photo.jpg style=painting.jpg   your own pictures
  nstbench run --help                                 all settings and choices
  nstbench run -m weights.style=1,10,100              a sweep
  nstbench compare outputs/first                      its results, with intervals and tests
  nstbench report outputs/first                       its pictures, curves and tables as a page

exit status: 0 done, 1 something failed (a run, a download, a check), 2 a mistake in what was typed,
130 interrupted; each with the reason on standard error, or in a table
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status: 0 done, 1 something failed, 2 a mistake in what was typed."""
    if argv is None:  # the command line of this process
        use_utf8()
    print_anything()
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] in (["run"], ["train"]) and {"--version", "-V"} & set(arguments):
        arguments = ["--version"]  # nstbench's version, not Hydra's
    try:
        if arguments[:1] == ["run"]:
            from nstbench.cli import run

            return run.main(arguments[1:])
        if arguments[:1] == ["train"]:
            from nstbench.cli import train

            return train.main(arguments[1:])
        return _other(arguments)
    except UserError as error:
        print(f"nstbench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("nstbench: interrupted; the same command continues where it stopped", file=sys.stderr)
        return 130
    except StorageError as error:
        print(f"nstbench: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader, such as head, has closed the pipe
        sys.stderr.close()
        return 0
    except OSError as error:
        if error.errno not in FULL:
            raise
        where = error.filename or "what the output is redirected to"
        print(f"nstbench: {StorageError(Path(where), error)}", file=sys.stderr)
        return 1


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(self.prog, "", message, f"Type {self.prog} --help.")


def _other(arguments: list[str]) -> int:
    parser = _Parser(
        prog="nstbench",
        description="A laboratory for neural style transfer.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", "-V", action="version", version=f"nstbench {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="command")
    commands.add_parser("run", help="stylise one picture, or sweep over many settings with -m")
    commands.add_parser("train", help="train the encoder that ships with nstbench again, or one like it")
    for name in _COMMANDS:
        import_module(f"nstbench.cli.{name}").add_parser(commands)
    if not arguments:
        parser.print_help()
        return 2
    typed = arguments[0]
    if not typed.startswith("-") and typed not in commands.choices:
        meant = f"Did you mean nstbench run {typed}?" if "=" in typed else ""
        hint = meant or did_you_mean(typed, commands.choices, what="commands")
        raise UserError(f"nstbench {typed}", "", "there is no such command", hint)
    parsed, unknown = parser.parse_known_args(arguments)
    if unknown:
        of = commands.choices.get(typed, parser)
        flags = [option for action in of._actions for option in action.option_strings]
        raise UserError(unknown[0], "", f"{of.prog} has no such argument", did_you_mean(unknown[0], flags))
    status: int = parsed.func(parsed)
    return status
