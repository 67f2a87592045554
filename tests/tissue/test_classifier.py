import torch

from diffseglung.platform.config import TissueFitConfig
from diffseglung.platform.runtime import generator
from diffseglung.tissue.classifier import CLASSES, TissueModel, class_weights, predict

FAST = TissueFitConfig(iterations=150, hidden=(16,))


def tissues(n: int = 4000) -> tuple[torch.Tensor, torch.Tensor]:
    """Five overlapping classes in six dimensions."""
    random = generator(0)
    label = torch.arange(n) % CLASSES
    centres = 5 * torch.randn(CLASSES, 6, generator=random)
    return centres[label] + torch.randn(n, 6, generator=random), label


def fitted(**settings: object) -> tuple[TissueModel, torch.Tensor, torch.Tensor]:
    rows, label = tissues()
    target = torch.nn.functional.one_hot(label, CLASSES).float()
    config = TissueFitConfig(**{"iterations": 150, "hidden": (16,), **settings})  # type: ignore[arg-type]
    return TissueModel.fit(rows, target, torch.ones(len(rows)), dimensions=None, config=config), rows, label


def test_separable_tissues_are_learned() -> None:
    model, rows, label = fitted()
    posterior = model.posterior(rows)
    torch.testing.assert_close(posterior.sum(1), torch.ones(len(rows)))
    assert (posterior.argmax(1) == label).float().mean() > 0.95


def test_tensors_that_earlier_versions_wrote_besides_are_not_read() -> None:
    model, rows, _ = fitted()
    older = model.to_tensors() | {"mixture.weights": torch.ones(3), "mixture_share": torch.tensor(0.0)}
    assert torch.equal(TissueModel.from_tensors(older).posterior(rows), model.posterior(rows))


def test_tensors_round_trip() -> None:
    model, rows, _ = fitted()
    again = TissueModel.from_tensors(model.to_tensors())
    torch.testing.assert_close(again.posterior(rows), model.posterior(rows))


def test_the_same_seed_gives_the_same_model_and_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first, rows, _ = fitted()
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(first.posterior(rows), fitted()[0].posterior(rows))


def test_a_teacher_that_is_never_sure_of_a_tissue_still_teaches_it() -> None:
    rows, label = tissues()
    target = torch.nn.functional.one_hot(label, CLASSES).float()
    target[label == 3] = torch.tensor([0.2, 0.0, 0.1, 0.7, 0.0])
    model = TissueModel.fit(rows, target, torch.ones(len(rows)), dimensions=None, config=FAST)
    assert (model.posterior(rows).argmax(1) == label).float().mean() > 0.95


def test_caution_makes_healthy_lung_weigh_more_and_rare_classes_weigh_most() -> None:
    target = torch.nn.functional.one_hot(torch.tensor([0] * 900 + [1] * 100), CLASSES).float()
    plain, careful = (class_weights(target, torch.ones(1000), weight) for weight in (1.0, 2.0))
    assert plain[1] > plain[0]
    assert careful[0] / careful[1] == 2 * plain[0] / plain[1]


def test_a_linear_classifier_is_a_softmax_of_its_logits() -> None:
    weights = {"0.weight": torch.eye(CLASSES), "0.bias": torch.zeros(CLASSES)}
    rows = torch.randn(7, CLASSES, generator=generator(3))
    torch.testing.assert_close(predict(weights, rows), rows.softmax(1))
