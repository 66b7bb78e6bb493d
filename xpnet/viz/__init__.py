"""Pictures of data, networks and training.

Each ``plot_`` function returns a matplotlib figure, draws on the axes in ``ax`` if given, and needs no display. The
functions without that prefix give the numbers behind a picture. Models run in inference mode, on their own backend,
and are never changed: weights, gradients, running statistics and pending contexts stay as they were.
"""

from xpnet.viz.activation_maximization import maximize_activation, plot_activation_maximization
from xpnet.viz.attribution import grad_cam, plot_grad_cam, plot_saliency, saliency
from xpnet.viz.classification import misclassified, plot_confusion_matrix, plot_misclassified
from xpnet.viz.features import feature_maps, plot_feature_maps, plot_filters
from xpnet.viz.history import plot_history
from xpnet.viz.initial_values import (
    INITIAL_VALUES,
    initial_activations,
    plot_activation_histograms,
    plot_initial_activations,
)
from xpnet.viz.model_graph import plot_model
from xpnet.viz.optimizer_paths import BOWL, SADDLE, Surface, optimizer_path, plot_optimizer_paths
from xpnet.viz.receptive_field import ReceptiveField, receptive_fields
from xpnet.viz.receptive_field_figure import plot_receptive_fields
from xpnet.viz.saving import save_figure

__all__ = [
    "BOWL",
    "INITIAL_VALUES",
    "SADDLE",
    "ReceptiveField",
    "Surface",
    "feature_maps",
    "grad_cam",
    "initial_activations",
    "maximize_activation",
    "misclassified",
    "optimizer_path",
    "plot_activation_histograms",
    "plot_activation_maximization",
    "plot_confusion_matrix",
    "plot_feature_maps",
    "plot_filters",
    "plot_grad_cam",
    "plot_history",
    "plot_initial_activations",
    "plot_misclassified",
    "plot_model",
    "plot_optimizer_paths",
    "plot_receptive_fields",
    "plot_saliency",
    "receptive_fields",
    "saliency",
    "save_figure",
]
