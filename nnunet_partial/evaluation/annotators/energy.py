"""How far a prediction lies from several annotators, against how far they lie from each other (table 3 of the paper)."""

import numpy as np

from nnunet_partial.evaluation.annotators.overlap import mean_over_pairs


def diversities(between: np.ndarray) -> dict[str, float]:
    """How far annotators lie from each other, E[d(y, y')], in the two ways in which it is told.

    `diversity_draws` takes y and y' as independent draws from the annotators, so that both may be the same one, at distance
    0: the expectation of eq. (2) over the empirical distribution. `diversity_pairs` takes two different annotators: n/(n-1)
    times as much, NaN for one alone. The paper's table 3 has `diversity_pairs`: of brain tumor 2 its text says that one of
    three annotators lies 0.9415 from the others on average, and these 0.1982 from each other. Over pairs that is
    (2 * 0.9415 + 0.1982) / 3 = 0.694, over draws 0.462; the table says 0.6955.

    Shape:
        between (n, n) distances, 0 on the diagonal.
    """
    return {"diversity_pairs": mean_over_pairs(between), "diversity_draws": float(between.mean())}


def energy_distance(to_prediction: np.ndarray, between: np.ndarray) -> dict[str, float]:
    """The squared generalized energy distance of one prediction from the annotators, and its two terms.

    `IoU_distance` is E[d(y, prediction)]; `GED2_pairs` and `GED2_draws` are 2 `IoU_distance` less the diversity of that name.
    Neither can be negative, since d obeys the triangle inequality. `GED2_draws` is the distance of two distributions (0 only
    where all annotators drew what is predicted); `GED2_pairs`, the paper's, does not count against a prediction that the
    annotators are few: it is 0 for one that lies between two annotators who differ.

    Args:
        to_prediction: Distance of each annotator from the prediction.
        between: Distances of the annotators from each other.

    Shape:
        to_prediction (n,), between (n, n).

    Source: Silva & Oliveira 2021, eq. (3) and table 3, columns 2 to 4.
    """
    distance = float(to_prediction.mean())
    found = diversities(between)
    return {
        "IoU_distance": distance,
        **found,
        "GED2_pairs": 2 * distance - found["diversity_pairs"],
        "GED2_draws": 2 * distance - found["diversity_draws"],
    }
