"""`outrider`: parses the command line, runs one command, and answers 0, 1 (failed) or 2 (usage).

A command that a signal ended answers 128 and the signal's number: 130 after Ctrl-C.
"""

from __future__ import annotations

import sys

from outrider.signals import Received, unwinding


def main(arguments: list[str] | None = None) -> int:
    """Run one command; the exit code."""
    with unwinding() as received:
        try:
            code = _run(arguments, received)
        except KeyboardInterrupt:
            sys.stderr.write("interrupted\n")
            return received.exit_code
        # The command line's own library has caught it where the code is not 0.
        return received.exit_code if code and received.number else code


def _run(arguments: list[str] | None, received: Received) -> int:
    # Imported here, since that takes a quarter of a second, in which Ctrl-C may come already.
    from rich.text import Text

    from outrider.boundary import expected, one_line
    from outrider.commands import app
    from outrider.terminal import ERR

    try:
        app(arguments, prog_name="outrider")
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else 1
    except Exception as error:
        if received.number:  # which a library has made this error of
            raise KeyboardInterrupt from error
        if not expected(error):
            raise
        ERR.print(Text.assemble(("error: ", "bold red"), one_line(error)))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
