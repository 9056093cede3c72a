"""Training language models to follow instructions with human feedback. Ouyang, Wu, Jiang, Almeida, Wainwright,
Mishkin, Zhang, Agarwal, Slama, Ray, Schulman, Hilton, Kelton, Miller, Simens, Askell, Welinder, Christiano, Leike,
Lowe. NeurIPS 2022, https://arxiv.org/abs/2203.02155.

Claimed: a language model that imitates demonstrations (step 1), then learns by reinforcement (step 3) from a model of
its labelers' preferences (step 2), gives replies that people prefer to those of the model it started from (Abstract;
Section 4.1, Figure 1: to GPT-3's in 85 % of cases); the reward model predicts comparisons of labelers it has not seen
(Section 4.1: 69.6 %, 72.4 % of those it learned from); a penalty on the divergence from the supervised model keeps the
policy from over-optimising the reward model (Section 3.5); reinforcement costs performance on other text, which
pretraining gradients mixed in restore, and a larger penalty does not (Section 4.2, Figures 33 and 34).

The task is that of CarperAI's trlx (examples/randomwalks, after Chen et al. 2021): a prompt is a node of a graph, a
reply is a walk to the goal, and the shortest walk is known. So the true score of every reply, for which people's
judgement stands in the paper, is known too: the share of the shortest walk's saving, from 0 to 1.

Deviations, at every scale:
- Section 3.2: prompts are nodes and labelers are a rule. It prefers the reply with the better true score, errs in a
  given share of the comparisons, and does not compare replies that are equally good.
- Appendix C.1 and C.3: pretraining and supervised training are one: walks of the same kind are seen as plain text and
  as replies to a prompt, told apart by the first token. Plain text is what pretraining gradients and the cost of
  alignment are about. Demonstrations are random walks, so they are no better than text.
- Section 3.5: the reward model starts from the supervised model where both have the same form; the paper's starts from
  another model that was trained on public datasets. The prompts of its comparisons are those of reinforcement.
- Appendix C.4: weights are not averaged over iterations; advantages are whitened, which the paper does not say.
- No dropout (Appendix C.1 has 0.2 in supervised training).
What a smaller scale changes is in params/rlhf.yaml, and nowhere else.

Reading order: config.py; walks.py (the task, its score); networks.py (language model, reward and value); objectives.py
(the losses of the three steps); task.py (the steps, evaluation); pictures.py.

Shapes: batch = sequences; seq = length + 1 tokens: the kind of the sequence, then the nodes of a walk; steps = seq - 2,
the tokens of a reply.
"""

from reprise.experiments.rlhf.config import Config
from reprise.experiments.rlhf.networks import networks, sampled
from reprise.experiments.rlhf.objectives import (
    advantages,
    agreement,
    clipped_loss,
    comparison_loss,
    divergence,
    dpo_loss,
    last,
    log_probs,
    masked_mean,
    preferences,
    reply_mask,
    token_rewards,
    whitened,
)
from reprise.experiments.rlhf.task import Task
from reprise.experiments.rlhf.walks import Maze, maze_of, shortest_walk

__all__ = [
    "Config",
    "Maze",
    "Task",
    "advantages",
    "agreement",
    "clipped_loss",
    "comparison_loss",
    "divergence",
    "dpo_loss",
    "last",
    "log_probs",
    "masked_mean",
    "maze_of",
    "networks",
    "preferences",
    "reply_mask",
    "sampled",
    "shortest_walk",
    "token_rewards",
    "whitened",
]
