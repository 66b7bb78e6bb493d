"""Training: a single step, the loop around it, and measuring the result."""

from xpnet.training.history import Epoch, History
from xpnet.training.step import Evaluation, count_correct, evaluate, predict, train_step
from xpnet.training.trainer import Trainer

__all__ = ["Epoch", "Evaluation", "History", "Trainer", "count_correct", "evaluate", "predict", "train_step"]
