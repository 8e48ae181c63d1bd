"""Recurrent networks for JAX with PyTorch's semantics."""

from rnnjax.attention import AdditiveAttention as AdditiveAttention
from rnnjax.attention import AttentionPooling as AttentionPooling
from rnnjax.attention import DotAttention as DotAttention
from rnnjax.attention import MultiHeadAttention as MultiHeadAttention
from rnnjax.cells import ElmanCell as ElmanCell
from rnnjax.cells import GRUCell as GRUCell
from rnnjax.cells import LSTMCarry as LSTMCarry
from rnnjax.cells import LSTMCell as LSTMCell
from rnnjax.cells import SumCell as SumCell
from rnnjax.initializers import per_gate as per_gate
from rnnjax.linear import Linear as Linear
from rnnjax.linear import torch_uniform as torch_uniform
from rnnjax.masks import length_mask as length_mask
from rnnjax.masks import masked_mean as masked_mean
from rnnjax.norm_cells import LayerNormGRU as LayerNormGRU
from rnnjax.norm_cells import LayerNormGRUCell as LayerNormGRUCell
from rnnjax.norm_cells import LayerNormLSTM as LayerNormLSTM
from rnnjax.norm_cells import LayerNormLSTMCell as LayerNormLSTMCell
from rnnjax.onnx import to_onnx as to_onnx
from rnnjax.recurrent import GRU as GRU
from rnnjax.recurrent import LSTM as LSTM
from rnnjax.recurrent import Elman as Elman
from rnnjax.recurrent import Recurrent as Recurrent
from rnnjax.weights.flax import from_flax as from_flax
from rnnjax.weights.flax import to_flax as to_flax
from rnnjax.weights.torch import from_torch as from_torch
from rnnjax.weights.torch import to_torch as to_torch
from rnnjax.weights.torch import torch_layout as torch_layout
from rnnjax.weights.torch_out import torch_file as torch_file

__version__ = "0.1.0"
