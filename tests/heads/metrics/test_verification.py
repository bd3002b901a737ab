"""Error rates against constructed scores, a plain sort, and the definitions."""

import numpy as np
import pytest

from headlab.geometry.errors import HeadlabError
from headlab.heads.metrics.verification import BINS, ScoreCounts, count_pairs, gallery_ranks, verification


def plain(genuine, impostor):
    """FMR and FNMR at every threshold that is a score, and above all."""
    thresholds = np.append(np.unique(np.concatenate([genuine, impostor])), 2)
    fmr = (impostor[None] >= thresholds[:, None]).mean(1)
    fnmr = (genuine[None] < thresholds[:, None]).mean(1)
    return fmr, fnmr


def test_constructed_scores():
    # One of 10 genuine pairs below two of 200 impostors.
    genuine = np.array([0.1] + [0.9] * 9)
    impostor = np.array([0.5, 0.5] + [-0.2] * 198)
    rates = verification(ScoreCounts.of_scores(genuine, impostor))
    assert rates.fmr100 == 0  # the two are 1 %, which is allowed; so a threshold below 0.1 is
    assert rates.fmr1000 == pytest.approx(0.1)
    assert rates.eer == pytest.approx(0.005)  # there FMR is 1 %, FNMR 0: nearer than 1 % and 10 %
    assert (rates.genuine_pairs, rates.impostor_pairs) == (10, 200)


def test_fmr100_uses_the_allowed_percent():
    genuine = np.linspace(0.0, 0.99, 100)
    impostor = np.append(np.full(99, -0.5), 0.495)  # 1 %
    rates = verification(ScoreCounts.of_scores(genuine, impostor))
    assert rates.fmr100 == 0
    assert rates.fmr1000 == pytest.approx(0.5)


def test_random_scores_equal_a_plain_sort():
    rng = np.random.default_rng(0)
    genuine, impostor = np.tanh(rng.normal(0.6, 0.3, 400)), np.tanh(rng.normal(0, 0.25, 3000))
    rates = verification(ScoreCounts.of_scores(genuine, impostor))
    fmr, fnmr = plain(genuine, impostor)
    best = np.abs(fmr - fnmr).argmin()
    assert rates.eer == pytest.approx((fmr[best] + fnmr[best]) / 2, abs=2e-3)
    assert rates.fmr100 == pytest.approx(fnmr[fmr <= 0.01].min())
    assert rates.fmr1000 == pytest.approx(fnmr[fmr <= 0.001].min())
    fdr = (genuine.mean() - impostor.mean()) ** 2 / (genuine.var() + impostor.var())
    assert rates.fdr == pytest.approx(fdr, rel=1e-4)


def test_equal_gaussians_have_the_closed_form_eer():
    from scipy.stats import norm

    rng = np.random.default_rng(1)
    genuine, impostor = rng.normal(0.3, 0.1, 200_000), rng.normal(-0.1, 0.1, 200_000)
    rates = verification(ScoreCounts.of_scores(genuine, impostor))
    assert rates.eer == pytest.approx(norm.cdf(-2), abs=1e-3)  # means 4 standard deviations apart
    assert rates.eer_threshold == pytest.approx(0.1, abs=5e-3)


def test_pairs_are_counted_once():
    rng = np.random.default_rng(2)
    vectors, people = rng.normal(size=(1100, 6)), rng.integers(0, 40, 1100)
    counts = count_pairs(vectors, people)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    first, second = np.triu_indices(1100, 1)
    same = people[first] == people[second]
    scores = (unit[first] * unit[second]).sum(1)
    assert counts.genuine.sum() == same.sum() and counts.impostor.sum() == (~same).sum()
    got, want = verification(counts), verification(ScoreCounts.of_scores(scores[same], scores[~same]))
    assert got.eer == pytest.approx(want.eer, abs=1e-4)
    assert got.genuine_mean == pytest.approx(scores[same].mean(), abs=1e-4)
    assert len(counts.coarse(64).genuine) == 64 and counts.coarse(64).genuine.sum() == same.sum()


def test_two_sets_are_compared_with_each_other_only():
    a, b = np.eye(3), np.concatenate([np.eye(3), -np.eye(3)])
    counts = count_pairs(a, np.arange(3), others=b, other_people=np.array([0, 1, 2, 0, 1, 2]))
    assert counts.genuine.sum() == 6 and counts.impostor.sum() == 12
    assert counts.genuine[-1] == 3 and counts.genuine[0] == 3
    assert counts.impostor[BINS // 2] == 12


def test_ranks_in_a_gallery():
    gallery = np.array([[1.0, 0], [0, 1], [1, 1]])
    probes = np.array([[1, 0.1], [0.1, 1], [0.2, 1]])
    assert gallery_ranks(probes, np.array([0, 1, 2]), gallery, np.arange(3)).tolist() == [1, 1, 2]
    with pytest.raises(HeadlabError, match="not in the gallery"):
        gallery_ranks(probes, np.array([0, 1, 7]), gallery, np.arange(3))


def test_one_person_only_is_said():
    counts = count_pairs(np.eye(3), np.zeros(3, int))
    with pytest.raises(HeadlabError, match="pictures of one person only"):
        verification(counts)
    with pytest.raises(HeadlabError, match="no two pictures of one person"):
        verification(count_pairs(np.eye(3), np.arange(3)))
    with pytest.raises(HeadlabError, match="finite"):
        count_pairs(np.full((2, 2), np.nan), np.arange(2))
