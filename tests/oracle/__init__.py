"""The processor at hand as the judge of x86 instruction bytes."""

from tests.oracle.oracle import (
    EXECUTE_IN,
    EXECUTE_OUT,
    JUDGE_IN,
    JUDGE_OUT,
    Hint,
    Oracle,
    Outcome,
)

__all__ = ["EXECUTE_IN", "EXECUTE_OUT", "JUDGE_IN", "JUDGE_OUT", "Hint", "Oracle", "Outcome"]
