"""Programs run as a user runs them, in this process."""

import os
from typing import Any

from docstring_parser.attrdoc import AttributeDocstrings

from shared import config
from shared.run.in_process import Outcome, run_program_here
from shared.run.stopping import STOPPED
from synth.training import schedule


def quicken_programs() -> None:
    """Of all programs that this process runs: averaged weights are measured on a few batches, where the 50 of a real training take longer
    than a small training; a parser, and the sentences under the fields of a class of settings, are made once; and files are not waited for
    until they are on the disk, which counts in a power cut alone."""
    schedule.STATISTICS_BATCHES = 3
    os.fsync = lambda number: None
    read_sentences, build_parser = AttributeDocstrings.get_attr_docs, config._build_parser
    sentences: dict[type, Any] = {}
    parsers: dict[str, Any] = {}

    def read_once(reader: AttributeDocstrings, component: type) -> Any:
        if component not in sentences:
            sentences[component] = read_sentences(reader, component)
        return sentences[component]

    def build_once(config_class: type, *others: Any) -> Any:
        if config_class.__module__ == "__main__":  # a new class every time that its program is run
            return build_parser(config_class, *others)
        key = f"{config_class.__module__}.{config_class.__qualname__} {others}"
        if key not in parsers:
            parser = build_parser(config_class, *others)
            parsers[key] = parser, [(action, action.default) for action in parser._actions], dict(parser._defaults)
        parser, defaults, further = parsers[key]
        for action, default in defaults:  # those of a run may be in their place
            action.default = default
        parser._defaults = dict(further)
        return parser

    AttributeDocstrings.get_attr_docs, config._build_parser = read_once, build_once


def invoke_program(program: str, *arguments: object) -> Outcome:
    """`python -m program arguments…` in this process: the same code path without the time to import torch."""
    outcome = run_program_here(program, arguments)
    if outcome.status == STOPPED:  # the request was for the tests
        raise KeyboardInterrupt
    return outcome
