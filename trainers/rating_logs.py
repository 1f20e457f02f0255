"""What the attribute stage logs of its training batches: under the names and in the units of its evaluation."""

import torch
from torch import Tensor

from urm_hf.statistics.likelihoods import gaussian_nll


def sum_batch(stds: Tensor, mu: Tensor, sigma: Tensor, s: Tensor) -> Tensor:
    """
    The sums of a batch that [`average_sums`] needs; those of several processes are added.

    Args:
        stds (`Tensor` of shape `(B, n)`): predicted sigma on the rating scale.
        mu (`Tensor` of shape `(B, n)`): predicted means in units of the labels' mean and std.
        sigma (`Tensor` of shape `(B, n)`): predicted sigma in units of the labels' std.
        s (`Tensor` of shape `(B, n, R)`): ratings in the units of `mu`, NaN where there is none.

    Returns:
        `Tensor` of shape `(5, n)`, a column for each attribute: NLL of its ratings, their number, sigma on the rating
        scale, sigma in units of the labels' std, rows.
    """
    nll = gaussian_nll(mu, sigma, s).sum((0, 2))
    given = (~s.isnan()).sum((0, 2)).to(nll)
    return torch.stack([nll, given, stds.sum(0), sigma.sum(0), torch.full_like(nll, len(stds))])


def average_sums(sums: Tensor) -> dict[str, float]:
    """
    What is logged of a batch, each the average over attributes, as in evaluation.

    Args:
        sums (`Tensor` of shape `(5, n)`): what [`sum_batch`] gives.

    Returns:
        `dict[str, float]`: `mean_std`, predicted sigma on the rating scale; `mean_relative_std`, the same in units of
        each attribute's std over the training ratings; `nll` of a rating in these units, left out where the batch has
        no rating.
    """
    nll, given, stds, sigma, rows = sums.double()
    logs = {"mean_std": (stds / rows).mean().item(), "mean_relative_std": (sigma / rows).mean().item()}
    if given.any():
        logs["nll"] = (nll / given)[given > 0].mean().item()
    return logs
