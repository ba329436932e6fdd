"""CrossEncoderTrainingArguments: the arguments of a run that trains scores of pairs."""

from __future__ import annotations

from dataclasses import dataclass

from likewise.training.run.arguments import BaseTrainingArguments


@dataclass
class CrossEncoderTrainingArguments(BaseTrainingArguments):
    __doc__ = BaseTrainingArguments.__doc__
