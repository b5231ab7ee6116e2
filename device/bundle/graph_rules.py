"""What a graph of a bundle may hold (docs/bundle.md): fields, operators, attributes, types.

Numbers of fields are those of ONNX's onnx.proto, which never change. What is not in these tables is
refused: it is either no part of the format or has a reach beyond arithmetic.
"""

from __future__ import annotations

# Counts changes to these tables: what was looked through by older ones is looked through again.
RULES = 2

# Fields by message. Missing on purpose: functions (25) and training information (20) of a model,
# sparse initializers (15) of a graph, and of a tensor everything that lies elsewhere:
# segment (3), external_data (13), data_location (14), and texts (6). Of a node: overload (8), a
# function's.
MODEL_FORMAT, MODEL_GRAPH, MODEL_OPSET = 1, 7, 8
MODEL_TEXTS, MODEL_NUMBERS = (2, 3, 4, 6), (1, 5)
MODEL_METADATA = 14
GRAPH_NODE, GRAPH_NAME, GRAPH_INITIALIZER, GRAPH_NOTE = 1, 2, 5, 10
GRAPH_INPUT, GRAPH_OUTPUT = 11, 12
GRAPH_VALUES = (11, 12, 13)
GRAPH_METADATA = (14, 16)
NODE_INPUT, NODE_OUTPUT, NODE_NAME, NODE_KIND, NODE_ATTRIBUTE = 1, 2, 3, 4, 5
NODE_NOTE, NODE_DOMAIN, NODE_METADATA = 6, 7, 9
# Of an attribute: name, note, type; then a field for each type that is allowed.
ATTRIBUTE_NAME, ATTRIBUTE_NOTE, ATTRIBUTE_TYPE = 1, 13, 20
ATTRIBUTE_FIELDS = {1: 2, 2: 3, 3: 4, 4: 5, 5: 6, 6: 7, 7: 8}
FLOAT, INTEGER, TEXT, TENSOR, GRAPH, FLOATS, INTEGERS = 1, 2, 3, 4, 5, 6, 7
TENSOR_DIMS, TENSOR_TYPE, TENSOR_NAME, TENSOR_RAW, TENSOR_NOTE = 1, 2, 8, 9, 12
# Where numbers lie that are not raw: field to bytes of one, 0 where they are packed numbers.
TENSOR_TYPED = {4: 4, 5: 0, 7: 0, 10: 8, 11: 0}
TENSOR_ELSEWHERE = (3, 13, 14)

# Bytes of an element by the number of its type: f32, u8, i8, u16, i16, i32, i64, bool, f16, f64.
ELEMENT_BYTES = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8}
MOST_RANK = 8
MOST_NAME_BYTES = 1024
MOST_SIDES = 64
MOST_DEPTH = 3
# A training step of a whole MobileNetV3 has 8,000 nodes.
MOST_NODES = 50_000

# Opsets of the default domain, and the oldest and newest file format that carry them.
OPSETS = range(13, 22)
FORMATS = range(7, 11)

# Sequences and texts are left out, and so is what repeats until a condition holds, draws random
# numbers, or decodes pictures. Scan repeats as often as its input is long.
STANDARD = frozenset((
    "Abs", "Add", "And", "ArgMax", "ArgMin", "AveragePool", "BatchNormalization", "BitShift",
    "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "Cast", "CastLike", "Ceil", "Clip",
    "Concat", "Constant", "ConstantOfShape", "Conv", "ConvInteger", "ConvTranspose", "CumSum",
    "DepthToSpace", "DequantizeLinear", "Div", "DynamicQuantizeLinear", "Einsum", "Elu", "Equal",
    "Erf", "Exp", "Expand", "Flatten", "Floor", "Gather", "GatherElements", "GatherND", "Gelu",
    "Gemm", "GlobalAveragePool", "GlobalMaxPool", "Greater", "GreaterOrEqual",
    "GroupNormalization", "HardSigmoid", "HardSwish", "Identity", "InstanceNormalization", "IsInf",
    "IsNaN", "LayerNormalization", "LeakyRelu", "Less", "LessOrEqual", "Log", "LogSoftmax",
    "MatMul", "MatMulInteger", "Max", "MaxPool", "Mean", "Min", "Mish", "Mod", "Mul", "Neg",
    "NegativeLogLikelihoodLoss", "NonZero", "Not", "OneHot", "Or", "PRelu", "Pad", "Pow",
    "QLinearConv", "QLinearMatMul", "QuantizeLinear", "Range", "Reciprocal", "ReduceL1",
    "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin",
    "ReduceProd", "ReduceSum", "ReduceSumSquare", "Relu", "Reshape", "Resize", "Round", "Scan",
    "ScatterElements", "ScatterND", "Selu", "Shape", "Sigmoid", "Sign", "Size", "Slice", "Softmax",
    "SoftmaxCrossEntropyLoss", "Softplus", "Softsign", "SpaceToDepth", "Split", "Sqrt", "Squeeze",
    "Sub", "Sum", "Tanh", "Tile", "TopK", "Transpose", "Trilu", "Unsqueeze", "Where", "Xor",
))  # fmt: skip
# By domain; onnxruntime-training's files hold the first two of onnxruntime's own besides, training
# steps on bytes the last two.
DEFAULT_DOMAINS = ("", "ai.onnx")
OPERATORS = {
    "": STANDARD,
    "ai.onnx": STANDARD,
    "com.microsoft": frozenset(
        {"InPlaceAccumulatorV2", "AdamWOptimizer", "MatMulIntegerToFloat", "QLinearConv"}
    ),
}

# Attributes whose numbers old releases divide by, or allocate for, unchecked. Least and most.
INTEGER_RANGES = {
    "strides": (1, 1 << 12),
    "dilations": (1, 1 << 12),
    "kernel_shape": (1, 1 << 12),
    "pads": (0, 1 << 12),
    "output_padding": (0, 1 << 12),
    "output_shape": (1, 1 << 16),
    "group": (1, 1 << 20),
    "num_groups": (1, 1 << 20),
    "num_scan_inputs": (1, 64),
    "num_outputs": (1, 1 << 12),
    "blocksize": (1, 1 << 12),
    "axis": (-MOST_RANK, MOST_RANK - 1),
    "axes": (-MOST_RANK, MOST_RANK - 1),
    "batch_dims": (0, MOST_RANK - 1),
    "perm": (0, MOST_RANK - 1),
    "start": (-MOST_RANK, MOST_RANK),
    "end": (-MOST_RANK, MOST_RANK),
    "to": (1, 11),
    "scan_input_axes": (-MOST_RANK, MOST_RANK - 1),
    "scan_output_axes": (-MOST_RANK, MOST_RANK - 1),
}
# Of all other attributes.
ANY_INTEGER = (-(1 << 31), 1 << 31)
