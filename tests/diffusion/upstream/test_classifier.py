"""Classifiers of codes: the published numbers, softmax and BCE, balancing, budgets, files."""

import pytest
import torch
from deterministic_weights import weight_for
from upstream_nets import Golden

from headlab.diffusion.upstream.classifier import AFFECTNET, CELEBA, LatentClassifier, load_classifier
from headlab.diffusion.upstream.classifier_training import (
    Budget,
    ClassifierConfig,
    ClassifierTrainer,
    held_out,
    recalls,
    train_classifier,
)
from headlab.diffusion.upstream.diffae_files import LatentStatistics
from headlab.geometry.errors import HeadlabError


@pytest.fixture
def golden(shared):
    return Golden(shared, "diffae_latent_classifier")


@pytest.fixture
def published(golden):
    rows = [
        weight_for(f"{p}classifier.{leaf}", s)
        for p in ("", "ema_")
        for leaf, s in (("weight", (40, 512)), ("bias", (40,)))
    ]
    statistics = LatentStatistics.of(golden["conds"])
    return LatentClassifier(CELEBA, rows[0], rows[1], statistics, averaged=(rows[2], rows[3]))


def test_published_classifier(golden, published):
    assert list(CELEBA) == golden.about["id_to_cls"]
    z = golden["cls/z"]
    torch.testing.assert_close(published.statistics.normalized(z), golden["cls/normalize"], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(published.statistics.restored(z), golden["cls/denormalize_of_z"], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(published.logits(z), golden["cls/logits"], atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(published.logits(z, averaged=True), golden["cls/logits_ema"], atol=1e-4, rtol=1e-5)
    for name, amount in (("Wavy_Hair", 0.3), ("Smiling", -0.5), ("Young", 1.0)):
        assert published.index(name.lower()) == golden.about[f"cls_{name}"]
        want = golden[f"cls/manipulate/{name}_{amount}"]
        torch.testing.assert_close(published.moved(z, name, amount), want, atol=1e-4, rtol=1e-5)
    with pytest.raises(HeadlabError, match="knows no 'Tall'"):
        published.moved(z, "Tall", 1.0)


def test_a_published_step(golden, published):
    labels = golden["cls/labels"]
    trainer = ClassifierTrainer(512, labels, CELEBA, ClassifierConfig(batch=4))
    average = trainer.averages.networks["classifier"]
    assert published.averaged is not None
    with torch.no_grad():
        for layer, (weight, bias) in (
            (trainer.layer, (published.weight, published.bias)),
            (average, published.averaged),
        ):
            layer.weight.copy_(weight)
            layer.bias.copy_(bias)
    normalized = published.statistics.normalized(golden["cls/train/cond_raw"])
    told = trainer.loss(average(normalized), labels)
    torch.testing.assert_close(told.detach(), golden["cls/train/loss_ema"], atol=1e-5, rtol=1e-5)
    loss = trainer.step(normalized, labels)
    torch.testing.assert_close(torch.tensor(loss), golden["cls/train/loss"], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(trainer.layer.weight.grad, golden["cls/train/grad_weight"], atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(trainer.layer.bias.grad, golden["cls/train/grad_bias"], atol=1e-6, rtol=1e-4)
    # Parameters after an Adam step may differ by twice its rate where a gradient is about zero.
    torch.testing.assert_close(trainer.layer.weight.detach(), golden["cls/train/after_weight"], atol=2e-3, rtol=1e-5)
    apart = (trainer.layer.weight.detach() - golden["cls/train/after_weight"]).abs() > 1e-5
    assert float(apart.float().mean()) < 1e-3
    torch.testing.assert_close(average.weight, golden["cls/train/after_ema_weight"], atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(average.bias, golden["cls/train/after_ema_bias"], atol=1e-6, rtol=1e-5)


def test_encoded_pictures_of_the_step(golden):
    from upstream_nets import filled_diffae, small_diffae_config

    config = small_diffae_config((1, 1, 2, 3, 4), (1, 1, 2, 3, 4, 4), 8, time=512, code=512)
    with torch.no_grad():
        code = filled_diffae(config).encode(golden["cls/imgs"])
    torch.testing.assert_close(code, golden["cls/train/cond_raw"], atol=1e-4, rtol=1e-4)


def test_budgets_tell_epochs_and_samples():
    budget = Budget.of(287_651, ClassifierConfig(samples=300_000))
    assert round(budget.epochs, 2) == 1.04 and budget.samples == 300_000 and budget.steps == 9375
    assert str(budget) == "1.04 epochs, 300,000 samples, 9,375 steps"
    assert Budget.of(30_000, ClassifierConfig(samples=300_000)).epochs == 10
    assert Budget.of(287_651, ClassifierConfig(epochs=10.0)).samples == pytest.approx(2_876_510, abs=16)
    assert Budget.of(50, ClassifierConfig()).epochs == pytest.approx(10, abs=0.4)
    with pytest.raises(HeadlabError, match="not in both"):
        Budget.of(10, ClassifierConfig(samples=1, epochs=1.0))
    with pytest.raises(HeadlabError, match="does nothing"):
        Budget.of(10, ClassifierConfig(epochs=0.0))


def clouds(counts, size=16, apart=0.7, seed=0):
    """Codes of classes about points that lie close together."""
    generator = torch.Generator().manual_seed(seed)
    points = apart * torch.randn(len(counts), size, generator=torch.Generator().manual_seed(5))
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    return 3 + 2 * (points[labels] + torch.randn(len(labels), size, generator=generator)), labels


@pytest.mark.parametrize("balance", ["sampling", "weights"])
def test_balancing_finds_the_rare_class(balance):
    codes, labels = clouds((1500, 1500, 40))
    rare = {}
    test, truth = clouds((200, 200, 200), seed=1)
    for kind in ("none", balance):
        config = ClassifierConfig("softmax", kind, epochs=3.0, rate=1e-2)  # type: ignore[arg-type]
        made, _ = train_classifier(codes[:, None], labels, ("a", "b", "c"), config)
        rare[kind] = recalls(made, test, truth)
    assert rare[balance]["c"] > rare["none"]["c"] + 0.2
    assert min(rare[balance].values()) > 0.6


def test_directions_of_a_softmax_do_not_depend_on_its_gauge():
    codes, labels = clouds((300, 300, 300))
    made, _ = train_classifier(
        codes[:, None], labels, ("a", "b", "c"), ClassifierConfig("softmax", epochs=5.0, rate=1e-2)
    )
    assert made.kind == "single"
    torch.testing.assert_close(made.probabilities(codes).sum(-1), torch.ones(900))
    other = LatentClassifier(made.names, made.weight + 7, made.bias, made.statistics, "single")
    torch.testing.assert_close(other.direction("b"), made.direction("b"), atol=1e-4, rtol=0)
    moved = made.moved(codes[labels == 0], "c", 0.5)
    before, after = (made.probabilities(x)[:, 2].mean() for x in (codes[labels == 0], moved))
    assert float(after) > float(before) + 0.5


def test_many_labels_with_weights_and_files(tmp_path):
    codes, labels = clouds((300, 300, 30), apart=0.3)
    many = torch.nn.functional.one_hot(labels, 3) * 2 - 1  # -1 and 1, as CelebA-HQ has them
    views = torch.stack([codes, codes + 0.01], 1)
    made, budget = train_classifier(
        views, many, ("a", "b", "c"), ClassifierConfig(balance="weights", epochs=4.0, rate=1e-2)
    )
    plain, _ = train_classifier(views, many, ("a", "b", "c"), ClassifierConfig(epochs=4.0, rate=1e-2))
    assert made.kind == "multi" and budget.epochs == pytest.approx(4, abs=0.1)
    assert recalls(made, codes, many)["c"] > recalls(plain, codes, many)["c"]
    made.save(tmp_path / "classifier.safetensors", {"epochs": 4})
    again = load_classifier(tmp_path / "classifier.safetensors")
    assert again.names == made.names and again.kind == "multi" and torch.equal(again.weight, made.weight)
    torch.testing.assert_close(again.moved(codes[:2], "b", 0.3), made.moved(codes[:2], "b", 0.3))
    (tmp_path / "classifier.safetensors").write_bytes(b"nothing")
    with pytest.raises(HeadlabError, match="damaged"):
        load_classifier(tmp_path / "classifier.safetensors")


def test_the_authors_file(published, tmp_path):
    state = {"conds_mean": published.statistics.mean[None], "conds_std": published.statistics.std[None]}
    state |= {"classifier.weight": published.weight, "classifier.bias": published.bias}
    torch.save({"state_dict": state | {"ema_classifier.weight": published.averaged[0]}}, tmp_path / "last.ckpt")
    with pytest.raises(HeadlabError, match=r"lacks ema_classifier.bias"):
        load_classifier(tmp_path / "last.ckpt")
    state |= {"ema_classifier.weight": published.averaged[0], "ema_classifier.bias": published.averaged[1]}
    torch.save({"state_dict": state}, tmp_path / "last.ckpt")
    again = load_classifier(tmp_path / "last.ckpt")
    assert again.names == CELEBA and torch.equal(again.weight, published.weight) and again.kind == "multi"
    del state["conds_mean"], state["conds_std"]
    torch.save({"state_dict": state}, tmp_path / "last.ckpt")
    with pytest.raises(HeadlabError, match=r"give latent.pkl"):
        load_classifier(tmp_path / "last.ckpt")
    torch.save({"state_dict": {"ema_model.x": torch.zeros(1), "model.x": torch.zeros(1)}}, tmp_path / "last.ckpt")
    with pytest.raises(HeadlabError, match="is no classifier"):
        load_classifier(tmp_path / "last.ckpt")


def test_unusable_labels():
    codes, labels = clouds((20, 20))
    for config, given, message in (
        (ClassifierConfig("softmax"), labels[:, None], "choose the loss"),
        (ClassifierConfig("bce"), labels, "choose the loss"),
        (ClassifierConfig("softmax"), labels + 5, r"within 0\.\.1"),
        (ClassifierConfig("softmax", "weights"), labels * 0, "no picture shows b"),
        (ClassifierConfig("bce", "sampling"), torch.ones(40, 2, dtype=torch.int64), "balance by weights"),
    ):
        with pytest.raises(HeadlabError, match=message):
            train_classifier(codes[:, None], given, ("a", "b"), config)


def test_held_out_rows_keep_every_class():
    labels = torch.repeat_interleave(torch.arange(8), torch.tensor([100, 200, 50, 40, 30, 20, 50, 10]))
    train, test = held_out(labels, 0.1)
    assert len(set(train.tolist()) & set(test.tolist())) == 0 and len(train) + len(test) == len(labels)
    assert torch.bincount(labels[test], minlength=8).tolist() == [10, 20, 5, 4, 3, 2, 5, 1]
    train, test = held_out(torch.ones(10, 3), 0.2)
    assert (len(train), len(test)) == (8, 2) and AFFECTNET[7] == "Contempt"
