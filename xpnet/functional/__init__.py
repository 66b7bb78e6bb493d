"""Operations as pairs of pure functions: ``y, ctx = op_forward(...)`` and ``gradients = op_backward(dy, ctx)``.

``ctx`` is a NamedTuple of what backward needs. No function changes its arguments.
"""

from xpnet.functional.activation import (
    ActivationCtx,
    SoftmaxCtx,
    relu_backward,
    relu_forward,
    sigmoid_backward,
    sigmoid_forward,
    softmax_backward,
    softmax_forward,
    tanh_backward,
    tanh_forward,
)
from xpnet.functional.adaptive_pool import (
    AdaptivePool2DCtx,
    GlobalPool2DCtx,
    adaptive_pool2d_backward,
    adaptive_pool2d_forward,
    global_pool2d_backward,
    global_pool2d_forward,
)
from xpnet.functional.conv import (
    Conv2DCtx,
    col2im,
    conv2d_backward,
    conv2d_forward,
    im2col,
)
from xpnet.functional.conv_transpose import (
    ConvTranspose2DCtx,
    conv_transpose2d_backward,
    conv_transpose2d_forward,
)
from xpnet.functional.dropout import (
    DropoutCtx,
    dropout_backward,
    dropout_forward,
)
from xpnet.functional.group_norm import (
    GroupNormCtx,
    group_norm_backward,
    group_norm_forward,
    instance_norm_backward,
    instance_norm_forward,
    layer_norm_backward,
    layer_norm_forward,
)
from xpnet.functional.linear import (
    FlattenCtx,
    LinearCtx,
    flatten_backward,
    flatten_forward,
    linear_backward,
    linear_forward,
)
from xpnet.functional.local_response_norm import (
    LocalResponseNormCtx,
    local_response_norm_backward,
    local_response_norm_forward,
)
from xpnet.functional.loss import (
    MeanSquaredErrorCtx,
    SoftmaxCrossEntropyCtx,
    mean_squared_error_backward,
    mean_squared_error_forward,
    softmax_cross_entropy_backward,
    softmax_cross_entropy_forward,
)
from xpnet.functional.norm import (
    BatchNormCtx,
    batch_norm_backward,
    batch_norm_forward,
)
from xpnet.functional.pool import (
    Pool2DCtx,
    pool2d_backward,
    pool2d_forward,
)

__all__ = [
    "ActivationCtx",
    "AdaptivePool2DCtx",
    "BatchNormCtx",
    "Conv2DCtx",
    "ConvTranspose2DCtx",
    "DropoutCtx",
    "FlattenCtx",
    "GlobalPool2DCtx",
    "GroupNormCtx",
    "LinearCtx",
    "LocalResponseNormCtx",
    "MeanSquaredErrorCtx",
    "Pool2DCtx",
    "SoftmaxCrossEntropyCtx",
    "SoftmaxCtx",
    "adaptive_pool2d_backward",
    "adaptive_pool2d_forward",
    "batch_norm_backward",
    "batch_norm_forward",
    "col2im",
    "conv2d_backward",
    "conv2d_forward",
    "conv_transpose2d_backward",
    "conv_transpose2d_forward",
    "dropout_backward",
    "dropout_forward",
    "flatten_backward",
    "flatten_forward",
    "global_pool2d_backward",
    "global_pool2d_forward",
    "group_norm_backward",
    "group_norm_forward",
    "im2col",
    "instance_norm_backward",
    "instance_norm_forward",
    "layer_norm_backward",
    "layer_norm_forward",
    "linear_backward",
    "linear_forward",
    "local_response_norm_backward",
    "local_response_norm_forward",
    "mean_squared_error_backward",
    "mean_squared_error_forward",
    "pool2d_backward",
    "pool2d_forward",
    "relu_backward",
    "relu_forward",
    "sigmoid_backward",
    "sigmoid_forward",
    "softmax_backward",
    "softmax_cross_entropy_backward",
    "softmax_cross_entropy_forward",
    "softmax_forward",
    "tanh_backward",
    "tanh_forward",
]
