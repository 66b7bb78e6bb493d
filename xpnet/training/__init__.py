"""Training: a single step, the loop around it, what can be hung into it, and measuring the result."""

from xpnet.training.callbacks import (
    Callback,
    Checkpoint,
    CSVLog,
    EarlyStopping,
    JSONLinesLog,
    PhaseTimes,
    TensorBoard,
)
from xpnet.training.captured import CapturedGradients
from xpnet.training.checkpoint import load_checkpoint, save_checkpoint
from xpnet.training.evaluation import Evaluation, evaluate, predict
from xpnet.training.history import Epoch, History
from xpnet.training.metrics import Accuracy, ClassScores, ConfusionMatrix, Metric, TopK, count_correct
from xpnet.training.step import train_step
from xpnet.training.trainer import Trainer

__all__ = [
    "Accuracy",
    "CSVLog",
    "Callback",
    "CapturedGradients",
    "Checkpoint",
    "ClassScores",
    "ConfusionMatrix",
    "EarlyStopping",
    "Epoch",
    "Evaluation",
    "History",
    "JSONLinesLog",
    "Metric",
    "PhaseTimes",
    "TensorBoard",
    "TopK",
    "Trainer",
    "count_correct",
    "evaluate",
    "load_checkpoint",
    "predict",
    "save_checkpoint",
    "train_step",
]
