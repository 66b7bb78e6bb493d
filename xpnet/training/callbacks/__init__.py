"""What can be hung into a training run: files, logs, stopping early, timing, and whatever a user writes."""

from xpnet.training.callbacks.base import Callback
from xpnet.training.callbacks.logs import CSVLog, JSONLinesLog, TensorBoard
from xpnet.training.callbacks.saving import Checkpoint
from xpnet.training.callbacks.stopping import EarlyStopping
from xpnet.training.callbacks.timing import PhaseTimes

__all__ = ["CSVLog", "Callback", "Checkpoint", "EarlyStopping", "JSONLinesLog", "PhaseTimes", "TensorBoard"]
