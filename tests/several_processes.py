"""Run by torchrun: the programs that a file of JSON lines names, one after the other, since a start of Python costs seconds."""

import json
import sys
from pathlib import Path

from seg.config import SegConfig
from seg.evaluate import EvaluateConfig, settings_of_run
from seg.evaluate import main as evaluate
from seg.train import train as train_segmentation
from shared.config import parse_config
from shared.distributed import leave_processes
from shared.fid.__main__ import FidConfig, score
from synth.config import SynthConfig
from synth.train import train as train_synthesis

for line in Path(sys.argv[1]).read_text().splitlines():
    program, *arguments = json.loads(line)
    if program == "seg.train":
        train_segmentation(parse_config(SegConfig, arguments, program=program))
    elif program == "seg.evaluate":
        evaluate(parse_config(EvaluateConfig, arguments, program=program, positional={"run": None}, inherit=settings_of_run))
    elif program == "shared.fid":
        score(parse_config(FidConfig, arguments, program=program, positional={"real": None, "generated": None}))
    else:
        train_synthesis(parse_config(SynthConfig, arguments, program=program))
leave_processes()
