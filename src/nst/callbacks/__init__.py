"""Callbacks: observe a run, or stop it."""

from nst.callbacks.base import Callback, LossHistory, RunState
from nst.callbacks.checkpoint import Checkpoint
from nst.callbacks.early_stopping import EarlyStopping
from nst.callbacks.live_page import LivePage
from nst.callbacks.progress import ProgressBar
from nst.callbacks.save_images import SaveImages

__all__ = [
    "Callback",
    "Checkpoint",
    "EarlyStopping",
    "LivePage",
    "LossHistory",
    "ProgressBar",
    "RunState",
    "SaveImages",
]
