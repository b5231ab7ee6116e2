"""One rule per aten operator: the ONNX nodes that compute it.

A rule takes the builder, the graph node and its arguments with tensors replaced by ONNX values.
Sizes are ints or SymInts. The opset is 18; all operators but two of `integer.py` are
of the default domain.
"""

from mobiletl.export.lowering.onnx.rules import (
    activations,
    arithmetic,
    eight_bits,
    integer,
    maps,
    one_bit,
    products,
    shapes,
)
from mobiletl.export.lowering.onnx.rules.operands import Rules

RULES: Rules = {
    **arithmetic.RULES,
    **activations.RULES,
    **shapes.RULES,
    **products.RULES,
    **maps.RULES,
    **one_bit.RULES,
    **eight_bits.RULES,
    **integer.RULES,
}
