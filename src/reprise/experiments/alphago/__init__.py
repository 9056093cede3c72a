"""AlphaGo: networks learn Go from experts' games and from their own, and guide a tree search.

Silver, Huang, Maddison, Guez, Sifre, van den Driessche, Schrittwieser, Antonoglou, Panneershelvam, Lanctot, Dieleman,
Grewe, Nham, Kalchbrenner, Sutskever, Lillicrap, Leach, Kavukcuoglu, Graepel, Hassabis: Mastering the game of Go with
deep neural networks and tree search, Nature 529, 2016, https://doi.org/10.1038/nature16961.

What is claimed: a convolutional policy network predicts experts' moves far better than a linear softmax of patterns
(main text, Supervised learning of policy networks: 57.0 % against 24.2 %); reinforced by games against a pool of its
earlier selves it wins more than 80 % of games against the network it began as; a value network that learns from whole
games memorises results, which training on one position per game prevents; its value is more accurate than rollouts
(Figure 2b); a search that mixes values and rollouts beats one that has either alone, and every program before it
(Figure 4).

Deviations, at every scale:
- Methods, Policy network: professionals' games in place of 29.4 million positions of KGS, which no registry has.
- Extended Data Table 2: no ladder is read, so both planes of ladders are 0. The planes that describe moves describe
  sensible moves only.
- Methods, Policy network: reinforcement learning: one pass through the pipeline, whose baseline is zero.
- Methods, Value network: regression: the supervised policy is not made noisier before the random move.
- Methods, Search algorithm: rollouts are uniformly random, except that they do not fill the player's own eyes, and
  there is one for each leaf. Each move has a fresh tree, and each game one thread, without virtual loss. There is no
  tree policy and no softmax temperature; a leaf is expanded at its first visit, and seen in one orientation. The linear
  softmax of patterns is judged as a predictor alone; it lacks the patterns around the last move and the rules of thumb
  of Extended Data Table 4.
- A policy passes where no move is sensible.
At laptop scale: everything that `laptop` of params/alphago.yaml names. Above all, professionals' moves are predicted on
19 x 19, and all that follows is on 5 x 5, from games of a search without a network.

Reading order: config.py; features.py (positions as planes); networks.py (networks and losses); positions.py (experts'
games, symmetries); task.py (the three steps of training, players, matches, pictures).

Shapes: games, side by side; points = size²; a pass is the action after the last point; outcomes and values are 1 for
a win of the side to play, -1 for a loss.
"""

from reprise.experiments.alphago.config import Config
from reprise.experiments.alphago.networks import networks
from reprise.experiments.alphago.task import Task

__all__ = ["Config", "Task", "networks"]
