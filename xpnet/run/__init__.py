"""A whole training run from a page of settings: what the command line and the scripts are made of."""

from xpnet.run.origin import origin
from xpnet.run.saved import SavedRun, open_run, open_settings
from xpnet.run.settings import Settings
from xpnet.run.train import Outcome, train

__all__ = ["Outcome", "SavedRun", "Settings", "open_run", "open_settings", "origin", "train"]
