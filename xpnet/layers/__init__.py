"""Layers with the book's face: ``forward(x, train)`` and ``backward(dy)`` around the functional pairs."""

from xpnet.layers.activation import (
    ELU,
    GELU,
    SELU,
    Activation,
    Affine,
    Exponential,
    HardSigmoid,
    HardSwish,
    Identity,
    LeakyReLU,
    LogSoftmax,
    Mish,
    ReLU,
    ReLU6,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Softsign,
    Step,
    Tanh,
)
from xpnet.layers.adaptive_pool import AdaptivePool2D, GlobalPool2D
from xpnet.layers.base import Layer
from xpnet.layers.branches import Add, Multiply, Parallel, Residual
from xpnet.layers.containers import Sequential
from xpnet.layers.conv import Conv2D
from xpnet.layers.conv_transpose import ConvTranspose2D
from xpnet.layers.dropout import Dropout
from xpnet.layers.group_norm import GroupNorm, InstanceNorm, LayerNorm, LocalResponseNorm
from xpnet.layers.linear import Dense, Flatten
from xpnet.layers.module import Module
from xpnet.layers.norm import BatchNorm
from xpnet.layers.observe import Observer, observing
from xpnet.layers.parameter import Parameter
from xpnet.layers.pool import Pool2D
from xpnet.layers.prelu import PReLU
from xpnet.layers.separable import SeparableConv2D
from xpnet.layers.upsample import Reshape, Upsample2D

__all__ = [
    "ELU",
    "GELU",
    "SELU",
    "Activation",
    "AdaptivePool2D",
    "Add",
    "Affine",
    "BatchNorm",
    "Conv2D",
    "ConvTranspose2D",
    "Dense",
    "Dropout",
    "Exponential",
    "Flatten",
    "GlobalPool2D",
    "GroupNorm",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "InstanceNorm",
    "Layer",
    "LayerNorm",
    "LeakyReLU",
    "LocalResponseNorm",
    "LogSoftmax",
    "Mish",
    "Module",
    "Multiply",
    "Observer",
    "PReLU",
    "Parallel",
    "Parameter",
    "Pool2D",
    "ReLU",
    "ReLU6",
    "Reshape",
    "Residual",
    "SeparableConv2D",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Softsign",
    "Step",
    "Tanh",
    "Upsample2D",
    "observing",
]
