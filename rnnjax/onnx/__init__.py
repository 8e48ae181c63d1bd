"""Trained networks out as ONNX, which onnxruntime runs without JAX.

The package onnx, an extra, writes the bytes: ``pip install "rnnjax[convert]"``.
"""

from rnnjax.onnx.export import to_onnx as to_onnx
