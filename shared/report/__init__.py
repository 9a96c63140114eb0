"""The comparison report: what an experiment over semantics and seeds ends with.

Fill a `ComparisonReport`, then `write_report(report, folder)`.
"""

from shared.report.class_scores import ClassScores
from shared.report.model import (
    ArmRun,
    Command,
    ComparisonReport,
    EmbeddingMap,
    LossCurve,
    Picture,
    ProtocolItem,
    ReferenceRow,
    Score,
    ScoreKind,
    SegmentationResult,
)
from shared.report.render import write_report

__all__ = [
    "ArmRun",
    "ClassScores",
    "Command",
    "ComparisonReport",
    "EmbeddingMap",
    "LossCurve",
    "Picture",
    "ProtocolItem",
    "ReferenceRow",
    "Score",
    "ScoreKind",
    "SegmentationResult",
    "write_report",
]
