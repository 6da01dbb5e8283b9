"""L-BFGS for many problems at once: one evaluation serves all, yet each goes its own way and stops on its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

# Nocedal & Wright, Numerical Optimization, ch. 3.1: enough decrease, and the slope flattened enough.
DECREASE, CURVATURE = 1e-4, 0.9
# How many units in the last place a value may rise by rounding: there the slope decides (Hager & Zhang, 2005,
# "approximate Wolfe").
ROUNDING = 10
# The relative decrease below which scikit-learn's L-BFGS calls a problem solved.
FLAT = 64 * torch.finfo(torch.float64).eps

Objective = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Minima:
    """What each of B minimisations ended at.

    Attributes:
        points: ``(B, P)``.
        values: ``(B,)``, float64.
        iterations: ``(B,)`` steps taken.
        converged: ``(B,)`` bool; False: stopped at ``max_iter``, or no step led down.
        evaluations: How often the objective was called, for all that were still running then.
    """

    points: Tensor
    values: Tensor
    iterations: Tensor
    converged: Tensor
    evaluations: int


@dataclass
class _State:
    """The problems that still run, one row each; finished ones are taken out and cost nothing more."""

    problem: Tensor  # (b,) which of the B
    point: Tensor  # (b, P)
    value: Tensor  # (b,)
    gradient: Tensor  # (b, P)
    direction: Tensor  # (b, P)
    slope: Tensor  # (b,) along the direction, at the point
    step: Tensor  # (b,) to be tried next
    low: Tensor  # (b, 3) longest step known too short: step, value, slope
    high: Tensor  # (b, 3) shortest step known too long; infinite: none yet
    trials: Tensor  # (b,) steps tried along this direction
    iterations: Tensor  # (b,)
    moves: Tensor  # (b, m, P) last changes of the point, as a ring
    turns: Tensor  # (b, m, P) last changes of the gradient
    weights: Tensor  # (b, m) 1 / (move . turn); 0: an empty place
    newest: Tensor  # (b,) place of the newest

    def keep(self, rows: Tensor) -> None:
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name)[rows])


def minimise(
    objective: Objective,
    start: Tensor,
    max_iter: int,
    gradient_tol: float,
    value_tol: float = FLAT,
    history: int = 10,
    max_trials: int = 50,
    on_done: Callable[[int], None] | None = None,
) -> Minima:
    """Minimise B smooth functions of P variables each.

    Liu & Nocedal (1989) with a bracketing line search for the weak Wolfe conditions. All problems move in lockstep, one
    evaluation at a time: while one tries a shorter step, another takes its next iteration. Sums are taken in float64
    whatever the dtype of the points.

    A problem is solved when the largest component of its gradient is at most ``gradient_tol``, or its value fell by no
    more than ``value_tol * max(1, value)`` in an iteration: scikit-learn's two rules.

    Args:
        objective: From points ``(b, P)`` and the numbers ``(b,)`` of the problems they belong to, values ``(b,)`` in
            float64 and gradients ``(b, P)``.
        start: ``(B, P)``.
        max_iter: Steps for each problem.
        gradient_tol: See above.
        value_tol: See above.
        history: Number of steps remembered.
        max_trials: Steps tried along one direction.
        on_done: Called with the number of problems finished, when it grows.
    """
    state, done, evaluations = _begin(objective, start, history), 0, 1
    ends = Minima(
        start.clone(),
        state.value.clone(),
        torch.zeros_like(state.problem),
        torch.zeros_like(state.problem, dtype=torch.bool),
        0,
    )
    solved, stuck = state.gradient.abs().amax(1) <= gradient_tol, ~state.value.isfinite()
    while True:
        finished = solved | stuck | (state.iterations >= max_iter)
        if finished.any():
            rows = state.problem[finished]
            ends.points[rows], ends.values[rows] = state.point[finished], state.value[finished]
            ends.iterations[rows], ends.converged[rows] = state.iterations[finished], solved[finished]
            done += len(rows)
            if on_done is not None:
                on_done(done)
            state.keep(~finished)
        if len(state.problem) == 0:
            return Minima(ends.points, ends.values, ends.iterations, ends.converged, evaluations)
        trial = state.point + state.step[:, None].to(state.point.dtype) * state.direction
        value, gradient = objective(trial, state.problem)
        evaluations += 1
        accepted = _judge(state, value, _dot(gradient, state.direction))
        solved = torch.zeros_like(accepted)
        if accepted.any():
            solved[accepted] = _advance(state, accepted, trial, value, gradient, gradient_tol, value_tol)
        lost = ~accepted & ~solved & (state.trials >= max_trials)
        # A direction may be bad because the remembered steps are: the gradient has a second say, then it is over.
        stuck = lost & ~state.weights.any(1)
        if lost.any():
            state.weights[lost] = 0
            _aim(state, torch.nonzero(lost).flatten())


def _begin(objective: Objective, start: Tensor, history: int) -> _State:
    count, width = start.shape
    problem = torch.arange(count, device=start.device)
    value, gradient = objective(start, problem)
    scalars, steps = torch.zeros_like(value), torch.zeros_like(problem)
    state = _State(
        problem,
        start.clone(),
        value,
        gradient,
        direction=torch.empty_like(start),
        slope=scalars.clone(),
        step=scalars.clone(),
        low=value.new_zeros(count, 3),
        high=value.new_zeros(count, 3),
        trials=steps.clone(),
        iterations=steps.clone(),
        moves=start.new_zeros(count, history, width),
        turns=start.new_zeros(count, history, width),
        weights=value.new_zeros(count, history),
        newest=steps.clone(),
    )
    _aim(state, problem)
    return state


def _judge(state: _State, value: Tensor, slope: Tensor) -> Tensor:
    """Which trials are good; the others' brackets are narrowed and their next steps chosen."""
    falls = value <= state.value + DECREASE * state.step * state.slope
    noise = ROUNDING * torch.finfo(state.point.dtype).eps * state.value.abs().clamp(min=1)
    rounded = (value <= state.value + noise) & (slope <= (2 * DECREASE - 1) * state.slope)
    low_enough = falls | rounded  # False for NaN: as if the step were too long
    steep = slope < CURVATURE * state.slope
    tried = torch.stack([state.step, value, slope], dim=1)
    state.low = torch.where((low_enough & steep)[:, None], tried, state.low)
    state.high = torch.where((~low_enough)[:, None], tried, state.high)
    state.trials += 1
    accepted = low_enough & ~steep

    (a, value_a, slope_a), (b, value_b, slope_b) = state.low.unbind(1), state.high.unbind(1)
    bend = slope_a + slope_b - 3 * (value_b - value_a) / (b - a)
    root = (bend * bend - slope_a * slope_b).sqrt()
    inner = b - (b - a) * (slope_b + root - bend) / (slope_b - slope_a + 2 * root)
    # The cubic's minimum, but well inside the bracket, so that this shrinks; its middle where there is no such cubic.
    inner = torch.where(inner.isfinite(), inner, (a + b) / 2)
    inner = torch.minimum(torch.maximum(inner, a + 0.05 * (b - a)), b - 0.1 * (b - a))
    state.step = torch.where(accepted, state.step, torch.where(b.isinf(), 2 * state.step, inner))
    return accepted


def _advance(
    state: _State,
    accepted: Tensor,
    trial: Tensor,
    value: Tensor,
    gradient: Tensor,
    gradient_tol: float,
    value_tol: float,
) -> Tensor:
    """Take the accepted steps, remember them, and say which problems ``(accepted,)`` they solve."""
    rows = torch.nonzero(accepted).flatten()
    move, turn = trial[rows] - state.point[rows], gradient[rows] - state.gradient[rows]
    product = _dot(move, turn)
    told = product > torch.finfo(move.dtype).eps * _dot(turn, turn)
    place = (state.newest[rows[told]] + 1) % state.weights.shape[1]
    state.newest[rows[told]] = place
    state.moves[rows[told], place], state.turns[rows[told], place] = move[told], turn[told]
    state.weights[rows[told], place] = 1 / product[told]

    before, after = state.value[rows], value[rows]
    state.point = torch.where(accepted[:, None], trial, state.point)
    state.gradient = torch.where(accepted[:, None], gradient, state.gradient)
    state.value = torch.where(accepted, value, state.value)
    state.iterations += accepted
    _aim(state, rows)
    scale = torch.maximum(before.abs(), after.abs()).clamp(min=1)
    return (gradient[rows].abs().amax(1) <= gradient_tol) | (before - after <= value_tol * scale)


def _aim(state: _State, rows: Tensor) -> None:
    """Choose a direction for ``rows``, downhill by what was remembered, and start a line search along it."""
    steps, weights, newest = state.weights.shape[1], state.weights[rows], state.newest[rows]
    depth = int((weights != 0).sum(1).max()) if len(rows) else 0
    direction, factors = -state.gradient[rows], []
    dtype = direction.dtype
    for back in range(depth):
        place = (newest - back) % steps
        weight = weights.gather(1, place[:, None])
        factor = weight * _dot(state.moves[rows, place], direction)[:, None]
        direction = direction - factor.to(dtype) * state.turns[rows, place]
        factors.append(factor)
    weight, turn = weights.gather(1, newest[:, None])[:, 0], state.turns[rows, newest]
    known = weight != 0
    curvature = torch.where(known, weight * _dot(turn, turn), torch.ones_like(weight))
    direction = direction / curvature[:, None].to(dtype)
    for back in reversed(range(depth)):
        place = (newest - back) % steps
        weight = weights.gather(1, place[:, None])
        factor = factors[back] - weight * _dot(state.turns[rows, place], direction)[:, None]
        direction = direction + factor.to(dtype) * state.moves[rows, place]

    slope = _dot(state.gradient[rows], direction)
    uphill = ~(slope < 0)
    if uphill.any():
        direction = torch.where(uphill[:, None], -state.gradient[rows], direction)
        slope = torch.where(uphill, -_dot(state.gradient[rows], state.gradient[rows]), slope)
        state.weights[rows[uphill]] = 0
        known = known & ~uphill
    # Nothing is known of the curvature yet: a first step of length 1 at most.
    first = 1 / direction.double().norm(dim=1).clamp(min=1)
    state.direction[rows], state.slope[rows] = direction, slope
    state.step[rows] = torch.where(known, torch.ones_like(first), first)
    state.low[rows] = torch.stack([torch.zeros_like(slope), state.value[rows], slope], dim=1)
    state.high[rows] = torch.full_like(state.high[rows], torch.inf)
    state.trials[rows] = 0


def _dot(left: Tensor, right: Tensor) -> Tensor:
    """Of each row, in float64."""
    return (left * right).sum(dim=1, dtype=torch.float64)
