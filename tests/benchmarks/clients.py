"""Applications in processes of their own (``client.py``), and how to talk to one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from time import monotonic, sleep
from types import TracebackType
from typing import Any, Self

import psutil

from tests.benchmarks.harness import ROOT

__all__ = ["Client", "NoAnswer", "once", "python"]

START = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from tests.benchmarks.client import main; main()"
ANSWER_SECONDS = 90.0
"""For all connections to open, on a machine that swaps; an answer to a command takes no time."""
SAMPLE_SECONDS = 0.02

INTERPRETERS: dict[str, str] = {}
"""Of subjects, or of the "place" of an order, that live in an environment of their own."""


def _environment() -> dict[str, str]:
    # Without its bytecode a package would be compiled at each import, and that would be measured.
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def _command(order: dict[str, Any]) -> list[str]:
    return [INTERPRETERS.get(order.get("place", order["subject"]), sys.executable), "-P", "-c", START, json.dumps(order)]


def once(order: dict[str, Any]) -> dict[str, Any]:
    """Run one measurement in a fresh process."""
    found: dict[str, Any] = json.loads(subprocess.check_output(_command(order), env=_environment(), text=True))
    return found


def python(code: str, *options: str) -> str:
    """What a fresh interpreter prints."""
    return subprocess.check_output([sys.executable, *options, "-c", code], env=_environment(), text=True, cwd="/")


class NoAnswer(RuntimeError):
    """An application does not say how far it is: all of its threads hang."""


class Client:
    """One application under way, ready when all its connections have committed. ``threads``: the most it had."""

    def __init__(self, order: dict[str, Any], *, sampled: bool = True) -> None:
        self.order = order
        self._process = subprocess.Popen(
            _command(order), stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=_environment(), text=True
        )
        self._answers: SimpleQueue[str] = SimpleQueue()
        self._ended = threading.Event()
        self.threads = 0
        threading.Thread(target=self._read, daemon=True).start()
        if sampled:
            threading.Thread(target=self._sample, daemon=True).start()

    def __enter__(self) -> Self:
        self.ready = self._answer()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        assert self._process.stdin is not None
        if not self._process.stdin.closed:
            self._process.stdin.close()
        try:
            self._process.wait(5.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def kill(self) -> None:
        """End a process that does not recover."""
        self._ended.set()
        self._process.kill()

    def ask(self, command: str) -> dict[str, Any]:
        """``mark``, ``idle``, ``work``, ``close`` or ``report``."""
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        return self._answer()

    def until(self, fact: Callable[[dict[str, Any]], bool], deadline: float) -> dict[str, Any]:
        """The first mark of which *fact* is true, or the first one after *deadline* (``time.monotonic()``)."""
        while True:
            mark = self.ask("mark")
            if fact(mark) or monotonic() > deadline:
                return mark
            sleep(SAMPLE_SECONDS)

    def _answer(self) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = json.loads(self._answers.get(timeout=ANSWER_SECONDS))
        except Empty:
            raise NoAnswer(f"no answer from the application of {self.order['subject']}") from None
        return answer

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._answers.put(line)

    def _sample(self) -> None:
        process = psutil.Process(self._process.pid)
        while not self._ended.wait(SAMPLE_SECONDS):
            try:
                self.threads = max(self.threads, process.num_threads())
            except psutil.NoSuchProcess:
                return


def marks(clients: Sequence[Client]) -> list[dict[str, Any]]:
    """Where each is now."""
    return [client.ask("mark") for client in clients]
