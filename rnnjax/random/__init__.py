"""PyTorch's random numbers without PyTorch: same seed, same numbers."""

from rnnjax.random.dropout_masks import dropout_masks as dropout_masks
from rnnjax.random.generator import TorchGenerator as TorchGenerator
from rnnjax.random.init import embedding as embedding
from rnnjax.random.init import kaiming_uniform as kaiming_uniform
from rnnjax.random.init import orthogonal as orthogonal
from rnnjax.random.init import torch_init as torch_init
from rnnjax.random.init import xavier_uniform as xavier_uniform
from rnnjax.random.loaders import DataLoader as DataLoader
from rnnjax.random.processor import Processor as Processor
from rnnjax.random.processor import this_processor as this_processor
from rnnjax.random.splits import Split as Split
from rnnjax.random.splits import random_split as random_split
from rnnjax.random.splits import stratified_split as stratified_split
