"""Networks, plain ``torch.nn.Module``s.

Every container is ``stackable``: its forward uses leaf modules and operations on trailing dimensions only, so that with
its leaves swapped for stacked twins the same code runs on inputs with a leading member axis. ``features(x)`` returns
the hidden layers' activations by name. Weights are drawn from torch's current generator: seed around the construction.
"""

from repro.models.activations import ACTIVATIONS, activation, initialise, matched_init
from repro.models.conv import ConvNet, PlainCNN
from repro.models.mlp import MLP
from repro.models.resnet import ResNet

__all__ = ["ACTIVATIONS", "MLP", "ConvNet", "PlainCNN", "ResNet", "activation", "initialise", "matched_init"]
