"""Reducing the Dimensionality of Data with Neural Networks. Hinton, Salakhutdinov. Science 313, 504-507 (2006),
https://doi.org/10.1126/science.1127647

Claimed: a deep autoencoder that starts from the weights of a stack of restricted Boltzmann machines, trained one after
another, reconstructs digits far better than principal components (Figure 2: squared error 3.00 per image, logistic PCA
8.01, standard PCA 13.87); "without pretraining, the very deep autoencoder always reconstructs the average of the
training data, even after prolonged fine-tuning" (p. 506); its codes of two numbers separate the digits better than the
first two principal components (Figure 3); pretraining helps a classifier to generalise, with 1.2 % errors instead of
1.6 %, "because most of the information in the weights comes from modelling the images" and little from labels (p. 507).

Deviations:
- At laptop scale, fine-tuning uses stochastic gradient descent with momentum. At paper scale it uses conjugate
  gradients with three line searches on each batch of 1,000, as in the released code (backprop.m, 200 epochs). The line
  search of that code, minimize.m, is rewritten here with the same conditions and constants, but in float32 and with
  cubic interpolation throughout.
- Logistic principal components are an autoencoder with one linear code layer and logistic pixels: its encoder is
  linear, whereas the paper may have optimised the code of each image.
- Curves, faces and newswire stories are not included, nor is document retrieval (Figure 4).
- The paper uses curves to show that a very deep autoencoder fails without pretraining; here a net with the same layers
  (784-400-200-100-50-25-6, arms `very_deep`) has to reconstruct digits. The same holds for its statement on shallow
  autoencoders (`shallow`, with as many parameters as `machines`). Every arm learns at its own best rate.
- The classifier is the autoencoder's own stack with a softmax on its last hidden layer, instead of a separate net with
  500, 500 and 2000 units; it also learns from 100 and 1,000 labels, to show where the gain is.
- Two arms are not in the paper: `scaled`, in which only the initial weights are larger (Glorot & Bengio 2010), and
  `modern` (ReLU, He et al. 2015, Adam). They show what replaced pretraining.
What a smaller scale changes is in params/layerwise_pretraining.yaml, and nowhere else.

Reading order: config.py, networks.py, measures.py (objective and measures), line_searches.py (conjugate gradients),
task.py (training and evaluation of both stages), pictures.py.

Shapes: batch = images; 784 = 28 * 28 pixels; visible, hidden = units of a machine; code = numbers in an image's code.
"""

from reprise.experiments.layerwise_pretraining.config import Config, Stack
from reprise.experiments.layerwise_pretraining.line_searches import (
    LineSearches,
    Point,
    between,
    beyond,
    lowest_of_cubic,
)
from reprise.experiments.layerwise_pretraining.measures import neighbour_error, reconstruction_loss, squared_error
from reprise.experiments.layerwise_pretraining.networks import (
    Autoencoder,
    Classifier,
    Machine,
    PrincipalComponents,
    contrastive_divergence,
    linear_layers,
    listed,
    machines,
    networks,
)
from reprise.experiments.layerwise_pretraining.task import FinetuningTask, Task

__all__ = [
    "Autoencoder",
    "Classifier",
    "Config",
    "FinetuningTask",
    "LineSearches",
    "Machine",
    "Point",
    "PrincipalComponents",
    "Stack",
    "Task",
    "between",
    "beyond",
    "contrastive_divergence",
    "linear_layers",
    "listed",
    "lowest_of_cubic",
    "machines",
    "neighbour_error",
    "networks",
    "reconstruction_loss",
    "squared_error",
]
