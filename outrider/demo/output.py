"""What the demo prints: a live line while it works, then lines of figures, then a summary."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.table import Table
from rich.text import Text

from outrider.terminal import OUT


@dataclass(frozen=True)
class Scene:
    """One step of the demo as it ended: what was shown, and how long that took."""

    number: int
    title: str
    seconds: float
    lines: list[str]
    headlines: list[str]
    """The figures in a few words, for the summary."""


@dataclass
class Narrator:
    """Tells what happens. On a terminal it shows what is waited for; elsewhere plain lines only."""

    scenes: list[Scene] = field(default_factory=list)
    _lines: list[str] = field(default_factory=list)
    _headlines: list[str] = field(default_factory=list)

    @contextmanager
    def scene(self, number: int, title: str) -> Iterator[None]:
        """A step; its lines are kept for the summary and the report."""
        self._lines, self._headlines = [], []
        began = time.monotonic()
        OUT.print(Text(f"{number}. {title}", style="bold"), highlight=False)
        yield
        seconds = time.monotonic() - began
        self.scenes.append(Scene(number, title, seconds, self._lines, self._headlines))

    def tell(self, line: str, headline: str = "") -> None:
        """One line of measured figures; `headline` is what the summary says of them."""
        self._lines.append(line)
        if headline:
            self._headlines.append(headline)
        OUT.print(Text(f"   {line}"), highlight=False)

    @contextmanager
    def waiting(self, for_what: str) -> Iterator[None]:
        """Show what is waited for, on a terminal only."""
        if OUT.is_terminal:
            with OUT.status(Text(for_what)):
                yield
        else:
            yield

    def summary(self, seconds: float) -> None:
        """The table at the end: each scene's figures in a few words."""
        table = Table(title=f"the whole path in {seconds:.0f} s", title_justify="left")
        table.add_column("", justify="right")
        table.add_column("step")
        table.add_column("measured", overflow="fold")
        table.add_column("s", justify="right")
        for scene in self.scenes:
            measured = "\n".join(scene.headlines)
            table.add_row(str(scene.number), scene.title, measured, f"{scene.seconds:.1f}")
        OUT.print(table)
