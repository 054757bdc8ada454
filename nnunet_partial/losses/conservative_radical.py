"""Two views of one image: a branch that avoids false organs, a branch that avoids missed ones (Shi et al. 2022, eq. 1-6).

The paper segments one object, and names binary sub-tasks as its way to several classes (section IV F). So a branch has K binary
classifiers, log-odds d_k of "organ k or not", each of which is the paper's: w_k of eq. (1) weighs a voxel by its *true* class,

    conservative: alpha where organ k is not, 1 where it is      a false organ costs alpha, a missed one 1
    radical:      1 where organ k is not, alpha where it is      a missed organ costs alpha, a false one 1

At its optimum the conservative branch says organ k from p_k > alpha / (alpha + 1) on, the radical one from p_k > 1 / (alpha + 1)
on, so that they differ exactly where p_k lies between: also where one organ ends at another. Class weights in one softmax over
K + 1 classes would compare organs with background alone: both branches would take the same organ, and no voxel between two
organs could ever be uncertain.

A voxel teaches classifier k if its label says whether it is organ k: every voxel with one candidate class teaches all of them, as
in the paper, and a voxel with several candidates those of the organs that are not among them. Voxels with one candidate alone
would not do: where no case is fully annotated, none of them is background, and the branches would never see any.
"""

from torch import Tensor
from torch.nn import functional as F

from nnunet_partial.losses.log_odds import at_least_float32
from nnunet_partial.losses.sums import check_log_odds
from nnunet_partial.targets import PartialTarget, ambiguity_map, candidate_map, positive_map


def conservative_loss(log_odds: Tensor, target: PartialTarget, *, cost: float) -> Tensor:
    """Cross entropy of K binary classifiers to which a false organ costs more than a missed one.

    Args:
        log_odds: Output of the conservative branch.
        target: Label map and candidate tables of the batch.
        cost: alpha, what the costly error costs beside the other one.
    Shape:
        log_odds (B, K, *S); target.labels (B, 1, *S); returns a scalar (nats).
    Raises:
        ValueError: K or the spatial shape differ, or the target is soft.
    Source: Shi et al. 2022, L_ce-con of eq. (1), a mean by the weights in place of a sum, as torch's cross entropy with class
        weights: alpha then changes what is balanced, and not how much the branch has to say beside the others.
    """
    return _weighted_cross_entropy(log_odds, target, weight_absent=cost, weight_present=1.0)


def radical_loss(log_odds: Tensor, target: PartialTarget, *, cost: float) -> Tensor:
    """Cross entropy of K binary classifiers to which a missed organ costs more than a false one.

    Args, shape and errors as `conservative_loss`.

    Source: Shi et al. 2022, L_ce-rad of eq. (1), a mean by the weights in place of a sum.
    """
    return _weighted_cross_entropy(log_odds, target, weight_absent=1.0, weight_present=cost)


def branches_agree(conservative: Tensor, radical: Tensor) -> Tensor:
    """Whether both branches decide alike on each organ.

    Shape:
        log-odds (B, K, *S); returns (B, K, *S) bool.
    Source: Shi et al. 2022, eq. (3)-(6).
    """
    return (conservative > 0) == (radical > 0)


def certain_voxels(agree: Tensor, target: PartialTarget) -> Tensor:
    """True where the branches agree on every organ that the voxel may be.

    What they make of an organ that the annotation excludes there decides nothing.

    Args:
        agree: See `branches_agree`.
        target: Label map and candidate tables of the batch.
    Shape:
        agree (B, K, *S); returns (B, 1, *S) bool, the mask M^c; its opposite is M^uc.
    Source: Shi et al. 2022, eq. (5)-(6), for K binary sub-tasks.
    """
    return (agree | ~candidate_map(target)[:, 1:]).all(1, keepdim=True)


def _weighted_cross_entropy(log_odds: Tensor, target: PartialTarget, *, weight_absent: float, weight_present: float) -> Tensor:
    check_log_odds(target, log_odds=log_odds)
    d = at_least_float32(log_odds)
    known, present = ambiguity_map(target), positive_map(target)
    weights = known * d.new_tensor(weight_absent).where(~present, d.new_tensor(weight_present))
    costs = F.softplus(d.where(~present, -d))  # -log of the probability given to the truth
    return (weights * costs).sum() / weights.sum().clamp_min(1)
