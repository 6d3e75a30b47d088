"""`outrider`: parses the command line, runs one command, and answers 0, 1 (failed) or 2 (usage)."""

from __future__ import annotations

import sys

INTERRUPTED = 130


def main(arguments: list[str] | None = None) -> int:
    """Run one command; the exit code."""
    try:
        return _run(arguments)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return INTERRUPTED


def _run(arguments: list[str] | None) -> int:
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
        if not expected(error):
            raise
        ERR.print(Text.assemble(("error: ", "bold red"), one_line(error)))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
