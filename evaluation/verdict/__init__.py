"""Which method to use for this model and these data, with reasons and doubts, or that the data cannot decide."""

from evaluation.verdict.contest import Rule
from evaluation.verdict.remarks import Remark
from evaluation.verdict.verdict import Verdict, verdict

__all__ = ["Remark", "Rule", "Verdict", "verdict"]
