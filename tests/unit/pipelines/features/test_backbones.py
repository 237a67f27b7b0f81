from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torchvision import models

from pipelines.errors import UserError
from pipelines.features import backbones

SQUEEZENET = Path(__file__).parents[5] / "shared/data/weights/squeezenet1_0.safetensors"

SMALL = {
    "torchvision/resnet18": {"pooled": (512,), "grid": (7, 7, 512)},
    "torchvision/squeezenet1_0": {"pooled": (512,), "grid": (13, 13, 512)},
    "torchvision/mobilenet_v3_large": {"pooled": (960,), "grid": (7, 7, 960)},
    "torchvision/shufflenet_v2_x0_5": {"pooled": (1024,), "grid": (7, 7, 1024)},
    "timm/mobilenetv3_small_050": {"pooled": (1024,), "grid": (7, 7, 288)},
    "timm/resnet18": {"pooled": (512,), "grid": (7, 7, 512)},
    "timm/vit_tiny_patch16_224": {"pooled": (192,), "grid": (14, 14, 192)},
}
LARGE = {
    "torchvision/googlenet": {"pooled": (1024,), "grid": (7, 7, 1024)},
    "timm/swin_tiny_patch4_window7_224": {"pooled": (768,), "grid": (7, 7, 768)},
    "torchvision/resnet50": {"pooled": (2048,), "grid": (7, 7, 2048)},
    "torchvision/resnet101": {"pooled": (2048,), "grid": (7, 7, 2048)},
    "torchvision/vgg19": {"pooled": (4096,), "grid": (14, 14, 512)},
    "torchvision/alexnet": {"pooled": (4096,), "grid": (13, 13, 256)},
    "torchvision/efficientnet_b0": {"pooled": (1280,), "grid": (7, 7, 1280)},
    "torchvision/convnext_tiny": {"pooled": (768,), "grid": (7, 7, 768)},
    "torchvision/regnet_y_400mf": {"pooled": (440,), "grid": (7, 7, 440)},
    "torchvision/mnasnet0_5": {"pooled": (1280,), "grid": (7, 7, 1280)},
    "timm/resnet50": {"pooled": (2048,), "grid": (7, 7, 2048)},
    "timm/vgg19": {"pooled": (4096,), "grid": (7, 7, 512)},
}


def pictures(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 224, 224, 3), np.uint8)


def normalised(images: np.ndarray) -> torch.Tensor:
    """What torchvision's ToTensor and Normalize make of them."""
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return ((torch.from_numpy(images) / 255 - mean) / std).permute(0, 3, 1, 2)


def check_shapes(name, shapes):
    backbone = backbones.load(name, "random")
    assert backbone.shapes == shapes
    outputs = backbone(pictures(2))
    assert {output: values.shape for output, values in outputs.items()} == {
        output: (2, *shape) for output, shape in shapes.items()
    }
    # Random weights of 101 layers may well go beyond the range of float16, so numbers are no matter of this test.
    assert all(values.dtype == np.float16 for values in outputs.values())


@pytest.mark.parametrize("name", SMALL)
def test_shapes(name):
    check_shapes(name, SMALL[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE)
def test_shapes_of_large_ones(name):
    check_shapes(name, LARGE[name])


def test_a_larger_size_sees_the_same_part_of_a_picture_in_more_places():
    own, larger = (backbones.load("timm/resnet18", "random", size=size) for size in (None, 448))
    assert larger.shapes == {"pooled": (512,), "grid": (14, 14, 512)}
    assert larger.preprocess.crop == (448, 448)
    assert larger.preprocess.resize[0] == pytest.approx(2 * own.preprocess.resize[0], abs=1)
    assert larger.recipe["size"] == 448 and larger.recipe["preprocessing"]["crop"] == [448, 448]
    assert larger.recipe["weights"] == own.recipe["weights"]


def test_its_own_size_is_no_other_set_of_features():
    own, named = (backbones.load("torchvision/squeezenet1_0", "random", size=size) for size in (None, 224))
    assert own.recipe == named.recipe


@pytest.mark.parametrize(
    ("name", "size", "own"), [("timm/vit_tiny_patch16_224", 320, 224), ("torchvision/alexnet", 32, 224)]
)
def test_a_size_that_a_network_does_not_take_is_told(name, size, own):
    with pytest.raises(UserError, match=rf"size: {name} takes no pictures of {size}x{size} pixels .*its own is {own}"):
        backbones.load(name, "random", size=size)


def test_a_detector_has_no_size():
    with pytest.raises(UserError, match="is a detector, which sees whole pictures"):
        backbones.load("torchvision/fasterrcnn_resnet50_fpn_v2", "random", size=320)


# Against torchvision's own forward: the expected values are an independent path through the network.


@pytest.fixture(scope="module")
def trained_like():
    """Weights files of torchvision networks whose numbers are not the random ones of this project."""

    def make(name: str, folder: Path, **options) -> tuple[torch.nn.Module, str]:
        torch.manual_seed(7)
        network = models.get_model(name, weights=None, **options).eval()
        save_file(network.state_dict(), folder / f"{name}.safetensors")
        return network, str(folder / f"{name}.safetensors")

    return make


def test_resnet_is_the_input_of_its_classifier(trained_like, tmp_path):
    network, file = trained_like("resnet18", tmp_path)
    seen = []
    network.fc.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    images = pictures(2)
    with torch.inference_mode():
        network(normalised(images))
    outputs = backbones.load("torchvision/resnet18", file)(images)
    assert np.allclose(outputs["pooled"], seen[0], atol=5e-3, rtol=2e-3)
    assert np.allclose(outputs["grid"].astype(np.float32).mean((1, 2)), outputs["pooled"], atol=5e-3, rtol=2e-3)


@pytest.mark.heavy
@pytest.mark.parametrize("name", ["alexnet", pytest.param("vgg19", marks=pytest.mark.slow)])
def test_fc7_and_the_last_convolution(name, trained_like, tmp_path):
    network, file = trained_like(name, tmp_path)
    seen = {}
    network.classifier[-1].register_forward_pre_hook(lambda module, inputs: seen.update(fc7=inputs[0]))
    network.features[-1].register_forward_pre_hook(lambda module, inputs: seen.update(conv=inputs[0]))
    images = pictures(1)
    with torch.inference_mode():
        network(normalised(images))
    outputs = backbones.load(f"torchvision/{name}", file)(images)
    assert np.allclose(outputs["pooled"], seen["fc7"], atol=2e-3)
    assert np.allclose(outputs["grid"], seen["conv"].permute(0, 2, 3, 1), atol=2e-3)


def test_googlenet_undoes_the_normalisation(trained_like, tmp_path):
    network, file = trained_like("googlenet", tmp_path, transform_input=True, aux_logits=True, init_weights=False)
    seen = []
    network.fc.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    images = pictures(1)
    with torch.inference_mode():
        network(normalised(images))
    outputs = backbones.load("torchvision/googlenet", file)(images)
    assert np.allclose(outputs["pooled"], seen[0], atol=5e-3, rtol=2e-3)


@pytest.mark.skipif(not SQUEEZENET.exists(), reason="needs the development data")
def test_squeezenet_with_real_weights():
    from safetensors.torch import load_file

    network = models.squeezenet1_0(weights=None).eval()
    network.load_state_dict(load_file(SQUEEZENET))
    images = pictures(2)
    with torch.inference_mode():
        grid = network.features(normalised(images)).permute(0, 2, 3, 1)
    outputs = backbones.load("torchvision/squeezenet1_0", str(SQUEEZENET))(images)
    assert np.allclose(outputs["grid"], grid, atol=1e-2, rtol=1e-2)
    assert np.allclose(outputs["pooled"], grid.mean((1, 2)), atol=1e-2, rtol=1e-2)


def test_timm_pooled_is_what_its_classifier_takes():
    backbone = backbones.load("timm/mobilenetv3_small_050", "random")
    network = backbone.trunk.network
    images = pictures(1)
    config = backbone.preprocess
    inputs = ((torch.from_numpy(images) / 255 - torch.tensor(config.mean)) / torch.tensor(config.std)).permute(
        0, 3, 1, 2
    )
    with torch.inference_mode():
        logits = network(inputs)  # without a classifier, timm's forward gives what it would have taken
    assert np.allclose(backbone(images)["pooled"], logits, atol=5e-3)


def test_transformer_tokens_are_in_their_places():
    backbone = backbones.load("timm/vit_tiny_patch16_224", "random", ("grid",))
    images = pictures(1)
    inputs = (torch.from_numpy(images) / 255 - 0.5).div(0.5).permute(0, 3, 1, 2)
    with torch.inference_mode():
        tokens = backbone.trunk.network.forward_features(inputs)
    assert np.allclose(backbone(images)["grid"][0, 3, 5], tokens[0, 1 + 3 * 14 + 5], atol=5e-3)


# Laws


@pytest.mark.heavy
@pytest.mark.parametrize("name", ["torchvision/squeezenet1_0", "timm/resnet18"])
def test_batch_mates_change_nothing(name):
    backbone = backbones.load(name, "random")
    images = pictures(5)
    together = backbone(images)
    for index in (0, 3):
        alone = backbone(images[index : index + 1])
        for output in backbones.OUTPUTS:
            assert np.allclose(alone[output][0], together[output][index], atol=2e-3, rtol=2e-3)


def test_one_output_is_as_with_both():
    both = backbones.load("torchvision/squeezenet1_0", "random")(pictures(1))
    for output in backbones.OUTPUTS:
        only = backbones.load("torchvision/squeezenet1_0", "random", (output,))(pictures(1))
        assert list(only) == [output]
        assert np.array_equal(only[output], both[output])


def test_pickled_backbone_computes_the_same():
    import pickle

    backbone = backbones.load("torchvision/squeezenet1_0", "random", ("pooled",))
    copy = pickle.loads(pickle.dumps(backbone))
    assert np.array_equal(copy(pictures(1))["pooled"], backbone(pictures(1))["pooled"])


# Fingerprint


def test_recipe_is_stable_and_tells_everything_apart(trained_like, tmp_path):
    _, file = trained_like("squeezenet1_0", tmp_path)
    recipe = backbones.load("torchvision/squeezenet1_0", "random").recipe
    assert backbones.load("torchvision/squeezenet1_0", "random").recipe == recipe
    others = [
        backbones.load("torchvision/squeezenet1_0", file).recipe,
        backbones.load("torchvision/squeezenet1_0", "random", ("grid",)).recipe,
        backbones.load("torchvision/squeezenet1_1", "random").recipe,
    ]
    assert all(other != recipe for other in others)


def test_random_weights_leave_the_callers_random_numbers_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    backbones.load("torchvision/squeezenet1_0", "random")
    assert torch.equal(torch.rand(3), expected)


def test_the_file_format_is_no_part_of_the_fingerprint(trained_like, tmp_path):
    network, file = trained_like("squeezenet1_0", tmp_path)
    torch.save({"state_dict": {f"module.{k}": v for k, v in network.state_dict().items()}}, tmp_path / "same.pth")
    first = backbones.load("torchvision/squeezenet1_0", file)
    assert backbones.load("torchvision/squeezenet1_0", str(tmp_path / "same.pth")).recipe == first.recipe


def test_preprocessing_is_that_of_the_named_release(trained_like, tmp_path):
    _, file = trained_like("mobilenet_v3_large", tmp_path)
    assert backbones.load("torchvision/mobilenet_v3_large", file, ("pooled",)).preprocess.resize == (232, 232)
    first_release = tmp_path / "mobilenet_v3_large-8738ca79.pth"
    torch.save(backbones.read_weights(file), first_release)
    assert backbones.load("torchvision/mobilenet_v3_large", str(first_release), ("pooled",)).preprocess.resize == (
        256,
        256,
    )


# Mistakes


def test_another_classifier_is_no_matter(tmp_path):
    network = models.squeezenet1_0(weights=None, num_classes=7)
    save_file(network.state_dict(), tmp_path / "seven.safetensors")
    assert backbones.load("torchvision/squeezenet1_0", str(tmp_path / "seven.safetensors")).shapes["pooled"] == (512,)


@pytest.mark.parametrize("name", ["torchvision/resnet18", "torchvision/squeezenet1_1", "timm/resnet18"])
def test_weights_of_another_network(name, trained_like, tmp_path):
    _, file = trained_like("squeezenet1_0", tmp_path)
    with pytest.raises(UserError, match=f"not of {name}: .*(missing|shape)"):
        backbones.load(name, file)


def test_one_missing_and_one_foreign_weight_are_named(trained_like, tmp_path):
    network, _ = trained_like("squeezenet1_0", tmp_path)
    state = network.state_dict()
    state["features.99.extra"] = torch.zeros(1)
    del state["features.0.bias"]
    save_file(state, tmp_path / "wrong.safetensors")
    with pytest.raises(UserError, match=r"1 missing: features\.0\.bias; 1 unexpected: features\.99\.extra"):
        backbones.load("torchvision/squeezenet1_0", str(tmp_path / "wrong.safetensors"))


class Payload:
    ran = False

    def __reduce__(self):
        return (setattr, (Payload, "ran", True))


def test_a_pickle_that_would_run_code_is_refused(tmp_path):
    torch.save({"a": Payload()}, tmp_path / "evil.pth")
    with pytest.raises(UserError, match="tensors only"):
        backbones.load("torchvision/squeezenet1_0", str(tmp_path / "evil.pth"))
    assert not Payload.ran


@pytest.mark.parametrize("content", [b"", b"not weights"])
@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
def test_a_file_that_holds_no_weights(content, name, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=r"is no \.safetensors"):
        backbones.load("torchvision/squeezenet1_0", str(tmp_path / name))


def test_no_weights_file():
    with pytest.raises(UserError, match=r"no file nowhere\.pth"):
        backbones.load("torchvision/squeezenet1_0", "nowhere.pth")


@pytest.mark.parametrize(
    ("wrong", "near"),
    [
        ("torchvision/resent50", "torchvision/resnet50"),
        ("resnet50", "torchvision/resnet50 or timm/resnet50"),
        ("timm/squeezenet1_0", "torchvision/squeezenet1_0"),
        ("torchvision/vgg-19", "torchvision/vgg19"),
        ("torchvision/densenet121", "timm/densenet121"),
    ],
)
def test_nearest_names_are_offered(wrong, near):
    with pytest.raises(UserError, match=f"Did you mean .*{near}"):
        backbones.load(wrong, "random")


@pytest.mark.parametrize("outputs", [("pooled", "gird"), ()])
def test_outputs_that_there_are_not(outputs):
    with pytest.raises(UserError, match="pooled, grid"):
        backbones.load("torchvision/squeezenet1_0", "random", outputs)


@pytest.mark.parametrize("name", ["torchvision/squeezenet1_0", "timm/resnet18"])
def test_weights_that_cannot_be_downloaded(name, monkeypatch):
    import timm

    def refuse(*args, **kwargs):
        raise OSError("network is unreachable")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", refuse)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", refuse)
    monkeypatch.setattr(timm, "create_model", refuse)
    with pytest.raises(UserError, match=r"could not download .*network is unreachable.*--weights FILE"):
        backbones.load(name, "pretrained")
