"""L-BFGS for a batch of problems, each with its own line search and stopping point."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

# Wolfe conditions on decrease and curvature (Nocedal & Wright, Numerical Optimization, ch. 3.1).
DECREASE, CURVATURE = 1e-4, 0.9
# Units in the last place by which rounding may raise a value; within them the slope decides (Hager & Zhang, 2005,
# "approximate Wolfe").
ROUNDING = 10
# Relative decrease below which scikit-learn's L-BFGS has converged.
FLAT = 64 * torch.finfo(torch.float64).eps

Objective = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Minima:
    """Results of B minimisations.

    Attributes:
        points: ``(B, P)``.
        values: ``(B,)``, float64.
        iterations: ``(B,)``, accepted steps.
        converged: ``(B,)`` bool; False: stopped at ``max_iter``, or no step decreased the value.
        evaluations: Number of calls of the objective.
    """

    points: Tensor
    values: Tensor
    iterations: Tensor
    converged: Tensor
    evaluations: int


@dataclass
class _State:
    """The running problems, one row each; finished ones are removed and cost nothing more."""

    problem: Tensor  # (b,) index among the B
    point: Tensor  # (b, P)
    value: Tensor  # (b,)
    gradient: Tensor  # (b, P)
    direction: Tensor  # (b, P)
    slope: Tensor  # (b,) along the direction, at the point
    step: Tensor  # (b,) next step to try
    low: Tensor  # (b, 3) longest step known to be too short: step, value, slope
    high: Tensor  # (b, 3) shortest step known to be too long; infinite: unknown
    trials: Tensor  # (b,) steps tried along this direction
    iterations: Tensor  # (b,)
    moves: Tensor  # (b, m, P) last changes of the point, a ring buffer
    turns: Tensor  # (b, m, P) last changes of the gradient
    weights: Tensor  # (b, m) 1 / (move . turn); 0: empty
    newest: Tensor  # (b,) position of the newest

    def keep(self, rows: Tensor) -> None:
        """Keep only some rows."""
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

    Liu & Nocedal (1989) with a bracketing line search for the weak Wolfe conditions. The problems share each evaluation
    of the objective: while one tries a shorter step, another takes its next iteration. Sums are in float64, whatever
    the dtype of the points.

    As in scikit-learn, a problem has converged when the largest component of its gradient is at most ``gradient_tol``,
    or an iteration decreased its value by at most ``value_tol * max(1, value)``.

    Args:
        objective: Maps points ``(b, P)`` and the indices ``(b,)`` of their problems to values ``(b,)`` in float64 and
            gradients ``(b, P)``.
        start: ``(B, P)``.
        max_iter: Largest number of steps per problem.
        gradient_tol: See above.
        value_tol: See above.
        history: Number of past steps used.
        max_trials: Largest number of steps tried along one direction.
        on_done: Called with the number of finished problems when it grows.
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
        accepted = _line_search(state, value, _dot(gradient, state.direction))
        solved = torch.zeros_like(accepted)
        if accepted.any():
            solved[accepted] = _advance(state, accepted, trial, value, gradient, gradient_tol, value_tol)
        lost = ~accepted & ~solved & (state.trials >= max_trials)
        # The history may give a bad direction: retry once along the gradient, then give up.
        stuck = lost & ~state.weights.any(1)
        if lost.any():
            state.weights[lost] = 0
            _start_line_search(state, torch.nonzero(lost).flatten())


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
    _start_line_search(state, problem)
    return state


def _line_search(state: _State, value: Tensor, slope: Tensor) -> Tensor:
    """Accept the trials that satisfy the Wolfe conditions; narrow the other brackets and choose their next steps."""
    falls = value <= state.value + DECREASE * state.step * state.slope
    noise = ROUNDING * torch.finfo(state.point.dtype).eps * state.value.abs().clamp(min=1)
    rounded = (value <= state.value + noise) & (slope <= (2 * DECREASE - 1) * state.slope)
    low_enough = falls | rounded  # False for NaN, as for a step that is too long
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
    # The cubic's minimum, well inside the bracket so that the bracket shrinks; its middle if the cubic has none.
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
    """Take the accepted steps, add them to the history, and return which problems ``(accepted,)`` converged."""
    rows = torch.nonzero(accepted).flatten()
    move, turn = trial[rows] - state.point[rows], gradient[rows] - state.gradient[rows]
    product = _dot(move, turn)
    usable = product > torch.finfo(move.dtype).eps * _dot(turn, turn)
    place = (state.newest[rows[usable]] + 1) % state.weights.shape[1]
    state.newest[rows[usable]] = place
    state.moves[rows[usable], place], state.turns[rows[usable], place] = move[usable], turn[usable]
    state.weights[rows[usable], place] = 1 / product[usable]

    before, after = state.value[rows], value[rows]
    state.point = torch.where(accepted[:, None], trial, state.point)
    state.gradient = torch.where(accepted[:, None], gradient, state.gradient)
    state.value = torch.where(accepted, value, state.value)
    state.iterations += accepted
    _start_line_search(state, rows)
    scale = torch.maximum(before.abs(), after.abs()).clamp(min=1)
    return (gradient[rows].abs().amax(1) <= gradient_tol) | (before - after <= value_tol * scale)


def _start_line_search(state: _State, rows: Tensor) -> None:
    """Compute a descent direction for ``rows`` from the history, and start a line search along it."""
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
    # Without history the curvature is unknown: a first step of length 1 at most.
    first = 1 / direction.double().norm(dim=1).clamp(min=1)
    state.direction[rows], state.slope[rows] = direction, slope
    state.step[rows] = torch.where(known, torch.ones_like(first), first)
    state.low[rows] = torch.stack([torch.zeros_like(slope), state.value[rows], slope], dim=1)
    state.high[rows] = torch.full_like(state.high[rows], torch.inf)
    state.trials[rows] = 0


def _dot(left: Tensor, right: Tensor) -> Tensor:
    """Dot product of each row, in float64."""
    return (left * right).sum(dim=1, dtype=torch.float64)
