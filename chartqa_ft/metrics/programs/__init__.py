"""Programs that a model writes as its answer: interpreted within limits, never executed."""

from .answers import FAILED, find_program, program_answer, run_program
from .limits import ProgramError

__all__ = ["FAILED", "ProgramError", "find_program", "program_answer", "run_program"]
