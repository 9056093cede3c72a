"""The three steps in turn, within one run, and its evaluation."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from reprise.core.contract import Run
from reprise.core.run import task
from reprise.core.run.task import Evaluation, Picture
from reprise.experiments.rlhf.config import PPO, BestDemonstrations, BestOf, Config, Preferences
from reprise.experiments.rlhf.networks import LanguageModel, Scorer, networks, sampled
from reprise.experiments.rlhf.objectives import (
    PROMPT,
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
from reprise.experiments.rlhf.pictures import frontier_chart, walks_film
from reprise.experiments.rlhf.walks import Maze, maze_of
from reprise.parts.data.sampling import EpochSampler, share_of
from reprise.parts.optim import build_optimizer
from reprise.parts.training import InTurn, Schedule

FRAMES = 8
"""Number of moments in reinforcement at which the walks are recorded."""
BLOCK = 4096
"""Sequences that are sampled or scored at once."""
LEARNT, HELD_OUT, EPISODES, TESTED, REFERENCE = range(1, 6)
"""Streams of random numbers, apart from those of the samplers."""


class Compared(NamedTuple):
    """Replies of the supervised model, and how they were compared."""

    tokens: Int[Tensor, "prompts K seq"]
    true: Float[Tensor, "prompts K K"]
    """1 where the row's reply has the better true score."""
    labels: Float[Tensor, "prompts K K"]
    """1 where the labeler said so."""


class Task(task.Task):
    """Step 1 trains `supervised`, step 2 `reward`, step 3 `policy` and `value`."""

    log_every = 10
    offset: Tensor
    """Mean reward of the demonstrations, which is subtracted (Section 3.5)."""
    steps_seen: Tensor
    """Steps between tokens in the episodes of some iterations, [moments, nodes + 1, nodes + 1]."""
    course: Tensor
    """Divergence, proxy and true score in these iterations, [moments, 3]."""
    demonstrations: Tensor
    """Walks as replies, [walks, seq]."""
    texts: Tensor
    """Walks as plain text to learn from, [walks, seq]."""
    tested: Tensor
    """Walks as plain text to test with, [walks, seq]."""
    best: Tensor
    """The demonstrations with the best true scores, [walks, seq]."""

    def __init__(self, run: Run, config: Config) -> None:
        super().__init__(run, config)
        self.config = config
        built = networks(config)
        # The models are named one by one, so that their types are known.
        self.supervised: LanguageModel = built["supervised"]  # type: ignore[assignment]
        self.reward: Scorer = built["reward"]  # type: ignore[assignment]
        self.policy: LanguageModel = built["policy"]  # type: ignore[assignment]
        self.value: Scorer = built["value"]  # type: ignore[assignment]
        self.register_buffer("offset", torch.zeros(()))
        self.register_buffer("steps_seen", torch.zeros(FRAMES + 1, config.nodes + 1, config.nodes + 1))
        self.register_buffer("course", torch.zeros(FRAMES + 1, 3))
        # Without edges until the data or the weights of a finished run are loaded.
        self.maze = Maze(np.zeros((config.nodes, config.nodes), bool), config.length)
        self.compared: Compared | None = None

    def load_data(self) -> None:
        """Load the seed's graph, with demonstrations and plain text; a graph's first walks are the demonstrations.

        Raises:
            ValueError: the graph has another number of nodes, or too few walks.
        """
        config, step = self.config, self.config.supervised
        maze, learnt, tested = maze_of(self.run.data / "walks", self.run.seed, config.length)
        if maze.nodes != config.nodes:
            raise ValueError(f"nodes is {config.nodes}; expected {maze.nodes}, as many as the graph has")
        self.maze = maze
        if step.demonstrations + step.texts > len(learnt):
            asked = f"demonstrations and texts are {step.demonstrations} and {step.texts}"
            raise ValueError(f"supervised: {asked}; expected at most {len(learnt)} together, all walks of a graph")
        texts = learnt[step.demonstrations :][: step.texts]
        for name, words, kind in (
            ("demonstrations", learnt[: step.demonstrations], self.maze.ask),
            ("texts", texts, self.maze.text),
            ("tested", tested, self.maze.text),
        ):
            self.register_buffer(name, self.maze.encoded(words, kind), persistent=False)
        of_texts = min(max(round(step.batch_size * step.text_share), 1), step.batch_size - 1)
        seed, policy = self.run.seed, config.policy
        self.text_sampler = EpochSampler(step.texts, of_texts, seed)
        self.sampler = EpochSampler(step.demonstrations, step.batch_size - of_texts, seed)
        self.prompt_sampler = EpochSampler(config.comparisons.prompts, config.comparisons.batch_size, seed)
        self.schedules = [
            Schedule.of(step, self.sampler.steps_per_epoch),
            Schedule.of(config.comparisons, self.prompt_sampler.steps_per_epoch),
        ]
        if isinstance(policy, PPO):
            self.policy_text_sampler = EpochSampler(step.texts, policy.text_batch, seed)
            self.schedules.append(Schedule.of(policy, 1))
        elif isinstance(policy, Preferences):
            self.policy_sampler = EpochSampler(config.comparisons.prompts, policy.batch_size, seed)
            self.schedules.append(Schedule.of(policy, self.policy_sampler.steps_per_epoch))
        elif isinstance(policy, BestDemonstrations):
            kept = max(round(policy.share * step.demonstrations), policy.batch_size)
            scores = self.maze.score(self.demonstrations, self._mask(self.demonstrations))
            best = scores.argsort(descending=True, stable=True)[:kept]
            self.register_buffer("best", self.demonstrations[best], persistent=False)
            self.policy_sampler = EpochSampler(kept, policy.batch_size, seed)
            self.schedules.append(Schedule.of(policy, self.policy_sampler.steps_per_epoch))
        self.in_turn = InTurn([schedule.total_steps for schedule in self.schedules])

    @property
    def total_steps(self) -> int:
        return self.in_turn.total_steps

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        config, policy = self.config, self.config.policy
        found = [
            build_optimizer(self.supervised, config.supervised.optimizer),
            build_optimizer(self.reward, config.comparisons.optimizer),
        ]
        if not isinstance(policy, BestOf):
            found.append(build_optimizer(self.policy, policy.optimizer))
        if isinstance(policy, PPO):
            found.append(build_optimizer(self.value, policy.value_optimizer))
        return found

    def update(self, step: int) -> dict[str, Tensor | float]:
        """Take one step of the training in turn; in reinforcement, one iteration."""
        training, own_step = self.in_turn.at(step)
        if training == 0:
            return self._imitate(own_step)
        if training == 1:
            return self._compare(own_step)
        return self._improve(own_step)

    # Step 1

    def _imitate(self, step: int) -> dict[str, Tensor | float]:
        """Descend the cross-entropy of demonstrations and plain text."""
        settings = self.config.supervised
        shown = self.demonstrations[self.sampler.indices(step, self.rank, self.world_size)]
        read = self.texts[self.text_sampler.indices(step, self.rank, self.world_size)]
        loss = self._text_loss(self.supervised, torch.cat([shown, read]))
        self.descend(loss, self.raw_optimizers[0], settings.optimizer, self.schedules[0].at(step))
        return {"supervised_loss": loss.detach()}

    def _text_loss(self, model: LanguageModel, tokens: Int[Tensor, "batch seq"]) -> Float[Tensor, ""]:
        """Return the cross-entropy in nats per node, weighted among ranks by their numbers of nodes."""
        mask = self._mask(tokens)
        return -masked_mean(log_probs(model(tokens), tokens), mask) * self.weight_among_ranks(mask.sum())

    # Step 2

    def _compare(self, step: int) -> dict[str, Tensor | float]:
        """Descend the loss of all comparisons of a batch of prompts (Equation 1)."""
        settings = self.config.comparisons
        if step == 0:
            self.policy.load_state_dict(self.supervised.state_dict())
            if settings.network is None:
                self.reward.decoder.load_state_dict(self.supervised.decoder.state_dict())
        compared = self.comparisons()
        chosen = self.prompt_sampler.indices(step, self.rank, self.world_size)
        tokens, labels = compared.tokens[chosen], compared.labels[chosen]
        rewards = self._rewards(tokens.flatten(0, 1)).unflatten(0, tokens.shape[:2])
        loss = comparison_loss(rewards, labels) * self._weight_of(labels)
        self.descend(loss, self.raw_optimizers[1], settings.optimizer, self.schedules[1].at(step))
        if step + 1 == self.schedules[1].total_steps:
            with torch.no_grad():
                self.offset.copy_(self._rewards(self.demonstrations).mean())
        right = agreement(rewards.detach(), compared.true[chosen]) * self._weight_of(compared.true[chosen])
        return {"reward_loss": loss.detach(), "reward_accuracy": 100 * right}

    def comparisons(self) -> Compared:
        """Return the comparisons to learn from. They follow from the supervised model and the seed."""
        if self.compared is None:
            self.compared = self._compared(LEARNT, self.config.comparisons.prompts)
        return self.compared

    @torch.no_grad()
    def _compared(self, stream: int, prompts: int) -> Compared:
        """Sample replies to prompts, and label all pairs of them, some the wrong way round."""
        settings, draws = self.config.comparisons, self._draws(stream, 0)
        starts = np.repeat(draws.integers(1, self.config.nodes, prompts), settings.replies)
        tokens = self._replies(self.supervised, starts, draws)
        scores = self.maze.score(tokens, self._mask(tokens)).unflatten(0, (prompts, settings.replies))
        wrong = draws.random((prompts, settings.replies, settings.replies)) < settings.noise
        flipped = torch.from_numpy(wrong).to(tokens.device)
        nothing = torch.zeros_like(flipped)
        return Compared(
            tokens.unflatten(0, (prompts, settings.replies)),
            preferences(scores, nothing),
            preferences(scores, flipped),
        )

    # Step 3

    def _improve(self, step: int) -> dict[str, Tensor | float]:
        policy = self.config.policy
        if isinstance(policy, PPO):
            return self._reinforce(policy, step)
        if isinstance(policy, Preferences):
            return self._prefer(policy, step)
        assert isinstance(policy, BestDemonstrations)
        tokens = self.best[self.policy_sampler.indices(step, self.rank, self.world_size)]
        loss = self._text_loss(self.policy, tokens)
        self.descend(loss, self.raw_optimizers[2], policy.optimizer, self.schedules[2].at(step))
        return {"policy_loss": loss.detach()}

    def _prefer(self, settings: Preferences, step: int) -> dict[str, Tensor | float]:
        """Descend the loss of direct preference optimisation on all comparisons of a batch of prompts."""
        compared = self.comparisons()
        chosen = self.policy_sampler.indices(step, self.rank, self.world_size)
        tokens, labels = compared.tokens[chosen].flatten(0, 1), compared.labels[chosen]
        mask = self._mask(tokens)
        with torch.no_grad():
            reference = log_probs(self.supervised(tokens), tokens)
        log_ratios = ((log_probs(self.policy(tokens), tokens) - reference) * mask).sum(1)
        loss = dpo_loss(log_ratios.unflatten(0, labels.shape[:2]), labels, settings.beta) * self._weight_of(labels)
        self.descend(loss, self.raw_optimizers[2], settings.optimizer, self.schedules[2].at(step))
        return {"policy_loss": loss.detach()}

    def _reinforce(self, settings: PPO, step: int) -> dict[str, Tensor | float]:
        """Sample episodes, then descend the clipped loss and the value's squared error on minibatches of them."""
        if step == 0:
            with torch.no_grad():
                self.value.load_state_dict(self.reward.state_dict())
                self.value.head.bias.sub_(self.offset)
        draws = self._draws(EPISODES, step)
        starts = draws.integers(1, self.config.nodes, settings.batch_size)
        tokens = self._replies(self.policy, starts, draws)
        mask = self._mask(tokens)
        with torch.no_grad():
            logits, reference = self.policy(tokens), self.supervised(tokens)
            old = log_probs(logits, tokens)
            log_ratio = old - log_probs(reference, tokens)
            proxy, true = self._rewards(tokens) - self.offset, self.maze.score(tokens, mask)
            rewards = token_rewards(proxy if settings.reward == "model" else true, log_ratio, mask, settings.beta)
            values = self.value(tokens)[:, PROMPT - 1 : -1]
            advantage = advantages(rewards, values, mask, settings.trace)
            returns, advantage = advantage + values, whitened(advantage, mask)
            seen = torch.stack([divergence(logits, reference, mask).mean(), proxy.mean(), true.mean()])
        self._watch(step, tokens, mask, seen)
        lr, totals = self.schedules[2].at(step), list[Tensor]()
        parts = settings.epochs * settings.minibatches
        for part in range(parts):
            if part % settings.minibatches == 0:
                order = torch.from_numpy(draws.permutation(settings.batch_size)).chunk(settings.minibatches)
            chosen = order[part % settings.minibatches]
            mine = chosen[share_of(len(chosen), self.rank, self.world_size)].to(tokens.device)
            weight = self.weight_among_ranks(mask[mine].sum())
            change = log_probs(self.policy(tokens[mine]), tokens[mine]) - old[mine]
            loss = clipped_loss(change * mask[mine], advantage[mine], mask[mine], settings.clip) * weight
            descended = loss
            if settings.text_weight > 0:
                # Gradients of both add up, as in Appendix C.4.
                at = self.policy_text_sampler.indices(step * parts + part, self.rank, self.world_size)
                descended = descended + settings.text_weight * self._text_loss(self.policy, self.texts[at])
            self.descend(descended, self.raw_optimizers[2], settings.optimizer, lr)
            errors = (self.value(tokens[mine])[:, PROMPT - 1 : -1] - returns[mine]).square()
            value_loss = masked_mean(errors, mask[mine]) * weight
            self.descend(value_loss, self.raw_optimizers[3], settings.value_optimizer)
            totals.append(torch.stack([loss.detach(), value_loss.detach()]))
        policy_loss, value_loss = torch.stack(totals).mean(0)
        return {
            "policy_loss": policy_loss,
            "value_loss": value_loss,
            "kl": seen[0],
            "proxy": seen[1],
            "true_score": seen[2],
        }

    def _watch(self, step: int, tokens: Tensor, mask: Bool[Tensor, "batch steps"], seen: Float[Tensor, " 3"]) -> None:
        """Record the steps of the episodes at evenly spaced iterations, from the first on."""
        total = self.schedules[2].total_steps
        frame = step * FRAMES // total
        if step and frame == (step - 1) * FRAMES // total:
            return
        nodes = tokens[:, 1:].clamp(max=self.config.nodes)
        one_hot = torch.eye(self.config.nodes + 1, device=tokens.device)
        before, after = one_hot[nodes[:, :-1]] * mask[..., None], one_hot[nodes[:, 1:]]
        self.steps_seen[frame:] = before.flatten(0, 1).T @ after.flatten(0, 1)
        self.course[frame:] = seen

    # Shared

    def _weight_of(self, labels: Float[Tensor, "prompts K K"]) -> Tensor | float:
        """Return the weight among ranks of a mean over comparisons, of which a small batch may have none."""
        return self.weight_among_ranks(labels.sum() + 1e-9)

    def _mask(self, tokens: Int[Tensor, "batch seq"]) -> Bool[Tensor, "batch steps"]:
        return reply_mask(tokens, Maze.goal)

    def _draws(self, stream: int, step: int) -> np.random.Generator:
        """Return random numbers that depend on the seed, the stream and the step alone."""
        return np.random.Generator(np.random.Philox(key=[self.run.seed, (stream << 32) + step]))

    def _replies(
        self, model: LanguageModel, starts: Int[np.ndarray, " batch"], draws: np.random.Generator
    ) -> Int[Tensor, "batch seq"]:
        """Sample a reply for each start. Every rank samples all of them, so that ranks agree."""
        prompts = self.maze.prompts(torch.from_numpy(starts).to(self.device))
        numbers = draws.random((len(starts), self.config.length - 1), dtype=np.float32)
        uniform = torch.from_numpy(numbers).to(self.device)
        blocks = zip(prompts.split(BLOCK), uniform.split(BLOCK), strict=True)
        return torch.cat([sampled(model, *block, self.maze.goal, self.maze.pad) for block in blocks])

    def _rewards(self, tokens: Int[Tensor, "batch seq"]) -> Float[Tensor, " batch"]:
        """Return the reward model's score after the last token of each reply."""
        return last(self.reward(tokens), self._mask(tokens))

    # Evaluation

    def evaluate(self) -> Evaluation:
        """Score replies to every prompt, plain text, and the reward model on held-out comparisons."""
        policy, held_out = self.config.policy, self._compared(HELD_OUT, self.config.comparisons.held_out)
        starts = np.repeat(np.arange(1, self.config.nodes), self.config.evaluate.replies)
        reference = self._replies(self.supervised, starts, self._draws(REFERENCE, 0))
        if isinstance(policy, BestOf):
            tokens, kl = self._best_of(policy.samples, starts)
        else:
            tokens = self._replies(self.policy, starts, self._draws(TESTED, 0))
            kl = float(self._divergences(tokens).mean())
        mask = self._mask(tokens)
        true, of_reference = self.maze.score(tokens, mask), self.maze.score(reference, self._mask(reference))
        won = (true > of_reference).float() + 0.5 * (true == of_reference).float()
        rewards = self._rewards(held_out.tokens.flatten(0, 1)).unflatten(0, held_out.tokens.shape[:2])
        metrics = {
            "optimality": float(true.mean()),
            "preferred": 100 * float(won.mean()),
            "shortest": 100 * float((true == 1).float().mean()),
            "faults": 100 * float(self.maze.faults(tokens, mask).float().mean()),
            "proxy": float((self._rewards(tokens) - self.offset).mean()),
            "kl": kl,
            "text_loss": float(self._text_loss(self.policy, self.tested)),
            "reward_accuracy": 100 * float(agreement(rewards, held_out.true)),
            "label_agreement": 100 * float(agreement(rewards, held_out.labels)),
        }
        return Evaluation(metrics, self._pictures(tokens, mask, metrics))

    def _best_of(self, samples: int, starts: Int[np.ndarray, " batch"]) -> tuple[Int[Tensor, "batch seq"], float]:
        """Return the reply of several with the highest reward, and the bound log n - (n - 1) / n of its divergence.

        The bound is Stiennon et al.'s (2020, Appendix G.3).
        """
        tokens = self._replies(self.supervised, np.repeat(starts, samples), self._draws(TESTED, 0))
        rewards = torch.cat([self._rewards(block) for block in tokens.split(BLOCK)]).unflatten(0, (-1, samples))
        grouped = tokens.unflatten(0, (-1, samples))
        return grouped[torch.arange(len(grouped)), rewards.argmax(1)], math.log(samples) - (samples - 1) / samples

    def _divergences(self, tokens: Int[Tensor, "batch seq"]) -> Float[Tensor, " batch"]:
        return divergence(self.policy(tokens), self.supervised(tokens), self._mask(tokens))

    def _pictures(
        self, tokens: Int[Tensor, "batch seq"], mask: Bool[Tensor, "batch steps"], metrics: dict[str, float]
    ) -> dict[str, Picture]:
        """Draw the walks: of reinforcement as a film, of the other arms as they are at the end."""
        if not isinstance(self.config.policy, PPO):
            nodes = tokens[:, 1:].clamp(max=self.config.nodes)
            one_hot = functional.one_hot(nodes, self.config.nodes + 1).float()
            steps = ((one_hot[:, :-1] * mask[..., None]).flatten(0, 1).T @ one_hot[:, 1:].flatten(0, 1))[None]
            return {"walks": walks_film(self.maze, steps.cpu().numpy(), None)[-1]}
        course = self.course.cpu().numpy()
        return {
            "walks": walks_film(self.maze, self.steps_seen.cpu().numpy(), course),
            "frontier": frontier_chart(self.history),
        }
