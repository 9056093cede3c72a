"""The updates, compiled by Numba: stochastic gradient descent, one pair after another, on arrays in place.

Each is the gradient of a negative log-likelihood in terms of sigma, the logistic function. `words` is text with -1
between two texts, which no window crosses. Random numbers are those of a linear congruential generator from `state`, so
that an update is a function of its arguments.

Shapes: words of text; vocabulary; size; nodes; places = 2 * window. Returned are the loss summed over pairs, in nats,
and the number of pairs.
"""

from __future__ import annotations

import numpy as np
from numba import njit

MULTIPLIER, INCREMENT, UPPER = np.uint64(6364136223846793005), np.uint64(1442695040888963407), np.uint64(33)
"""Knuth's generator, of whose 64 bits the upper 31 are used."""
UNIT = np.float32(2.0**-31)
ONE, ZERO = np.float32(1), np.float32(0)
# Sums may be reordered, so that they are computed several terms at a time; NaN and infinity stay what they are.
_MATH = {"reassoc", "contract", "nsz", "arcp"}


@njit(cache=True)
def thinned(words, keep, state):
    """Return the words without some frequent ones; word w is kept with probability `keep[w]` (NIPS, Section 2.3).

    Args:
        words: int32 [words].
        keep: float32 [vocabulary].
        state: uint64.
    """
    kept, count = np.empty(len(words), np.int32), 0
    for word in words:
        state = state * MULTIPLIER + INCREMENT
        if word < 0 or np.float32(state >> UPPER) * UNIT < keep[word]:
            kept[count] = word
            count += 1
    return kept[:count]


@njit(cache=True, fastmath=_MATH)
def _decided(x, y, gradient, shift, label, lr):
    """Learn one decision, that of `label` by sigma(x·y + shift); return the probability it had.

    `y` is updated, and the step of `x` is added to `gradient`, all float32 [size].
    """
    logit = shift
    for i in range(len(x)):
        logit += x[i] * y[i]
    probability = ONE / (ONE + np.exp(-logit))
    step = lr * (label - probability)
    for i in range(len(x)):
        gradient[i] += step * y[i]
        y[i] += step * x[i]
    return probability if label == ONE else ONE - probability


@njit(cache=True)
def _drawn(noise, drawn, centre, state):
    """Fill `drawn` with the centre word and then with words of `noise`; return the generator's state."""
    drawn[0] = centre
    for i in range(1, len(drawn)):
        state = state * MULTIPLIER + INCREMENT
        drawn[i] = noise[np.int64(state >> UPPER) % len(noise)]
    return state


@njit(cache=True, fastmath=_MATH)
def skip_gram_sampling(words, inputs, outputs, noise, shifts, negatives, window, lr, state):
    """Negative sampling (NIPS, Equation 4) or, with shifts, noise-contrastive estimation, over one block of text.

    A pair's loss is -log sigma(x·y_c + s_c) - sum over k draws n of log sigma(-x·y_n - s_n), where x is the vector of a
    word in the window, c is the centre word, and the draws are shared by the words of a window.

    Args:
        words: int32 [words].
        inputs, outputs: float32 [vocabulary, size], updated.
        noise: int32 [draws], words as often as they are to be drawn.
        shifts: float32 [vocabulary], s: zeros, or -log(k p(word)) for noise-contrastive estimation.
        negatives: k.
        window: the most words to either side.
        lr: float32.
        state: uint64.
    """
    gradient, drawn = np.empty(inputs.shape[1], np.float32), np.empty(negatives + 1, np.int64)
    loss, pairs = 0.0, 0
    for at in range(len(words)):
        centre = words[at]
        if centre < 0:
            continue
        state = state * MULTIPLIER + INCREMENT
        reach = 1 + np.int64(state >> UPPER) % window
        state = _drawn(noise, drawn, centre, state)
        for side in (-1, 1):
            for distance in range(1, reach + 1):
                place = at + side * distance
                if place < 0 or place >= len(words) or words[place] < 0:
                    break
                x = inputs[words[place]]
                gradient[:] = ZERO
                likelihood = 1.0
                for i in range(negatives + 1):
                    word = drawn[i]
                    if i > 0 and word == centre:
                        continue
                    label = ONE if i == 0 else ZERO
                    likelihood *= _decided(x, outputs[word], gradient, shifts[word], label, lr)
                for i in range(len(x)):
                    x[i] += gradient[i]
                # One logarithm for all decisions; in float64 their product does not vanish.
                loss -= np.log(likelihood + 1e-300)
                pairs += 1
    return loss, pairs


@njit(cache=True, fastmath=_MATH)
def skip_gram_tree(words, inputs, nodes, paths, turns, lengths, window, lr, state):
    """The hierarchical softmax (NIPS, Equation 3) over one block of text.

    A pair's loss is -log p(c | x) = - sum over the inner nodes n from the root to c of log sigma(±x·y_n), with plus
    where the path turns left.

    Args:
        words: int32 [words].
        inputs: float32 [vocabulary, size], updated.
        nodes: float32 [nodes, size], updated.
        paths: int32 [vocabulary, depth], inner nodes from the root to each word.
        turns: float32 [vocabulary, depth], 1 where its path turns left, else 0.
        lengths: int32 [vocabulary], inner nodes on its path.
        window: the most words to either side.
        lr: float32.
        state: uint64.
    """
    gradient = np.empty(inputs.shape[1], np.float32)
    loss, pairs = 0.0, 0
    for at in range(len(words)):
        centre = words[at]
        if centre < 0:
            continue
        state = state * MULTIPLIER + INCREMENT
        reach = 1 + np.int64(state >> UPPER) % window
        for side in (-1, 1):
            for distance in range(1, reach + 1):
                place = at + side * distance
                if place < 0 or place >= len(words) or words[place] < 0:
                    break
                x = inputs[words[place]]
                gradient[:] = ZERO
                likelihood = 1.0
                for i in range(lengths[centre]):
                    likelihood *= _decided(x, nodes[paths[centre, i]], gradient, ZERO, turns[centre, i], lr)
                for i in range(len(x)):
                    x[i] += gradient[i]
                loss -= np.log(likelihood + 1e-300)
                pairs += 1
    return loss, pairs


@njit(cache=True, fastmath=_MATH)
def cbow_sampling(words, inputs, outputs, noise, shifts, negatives, window, weights, lr, state):
    """Learn to predict each word from the weighted mean of its window (ICLR, Section 3.1), by sampling as above.

    Args:
        words: int32 [words].
        inputs, outputs: float32 [vocabulary, size], updated.
        noise, shifts, negatives, window, lr, state: as for skip-gram.
        weights: float32 [places, size], of the coordinates of a word at each place in the window.
    """
    size = inputs.shape[1]
    mean, gradient = np.empty(size, np.float32), np.empty(size, np.float32)
    drawn, seen = np.empty(negatives + 1, np.int64), np.empty(2 * window, np.int64)
    loss, pairs = 0.0, 0
    for at in range(len(words)):
        centre = words[at]
        if centre < 0:
            continue
        state = state * MULTIPLIER + INCREMENT
        reach = 1 + np.int64(state >> UPPER) % window
        state = _drawn(noise, drawn, centre, state)
        mean[:] = ZERO
        count = 0
        for side in (-1, 1):
            for distance in range(1, reach + 1):
                place = at + side * distance
                if place < 0 or place >= len(words) or words[place] < 0:
                    break
                # Places from left to right: window - 1 is just before the centre word, window just after it.
                where = window - distance if side < 0 else window - 1 + distance
                seen[count] = where
                count += 1
                for i in range(size):
                    mean[i] += weights[where, i] * inputs[words[place], i]
        if count == 0:
            continue
        share = ONE / np.float32(count)
        for i in range(size):
            mean[i] *= share
        gradient[:] = ZERO
        likelihood = 1.0
        for i in range(negatives + 1):
            word = drawn[i]
            if i > 0 and word == centre:
                continue
            label = ONE if i == 0 else ZERO
            likelihood *= _decided(mean, outputs[word], gradient, shifts[word], label, lr)
        for j in range(count):
            where = seen[j]
            place = at + where - window if where < window else at + where - window + 1
            for i in range(size):
                inputs[words[place], i] += share * weights[where, i] * gradient[i]
        loss -= np.log(likelihood + 1e-300)
        pairs += 1
    return loss, pairs


@njit(cache=True)
def count_pairs(words, counts, window):
    """Add to `counts` [vocabulary, vocabulary] each pair of words, by the share of drawn windows that hold it.

    The word of the window is the row, the centre word the column; `window` is the widest. Returns the number of pairs.
    """
    pairs = 0
    for at in range(len(words)):
        if words[at] < 0:
            continue
        for side in (-1, 1):
            for distance in range(1, window + 1):
                place = at + side * distance
                if place < 0 or place >= len(words) or words[place] < 0:
                    break
                counts[words[place], words[at]] += np.float32(window + 1 - distance) / np.float32(window)
                pairs += 1
    return pairs
