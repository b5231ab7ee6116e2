"""From functions over tensors to flat graphs of aten operators."""
