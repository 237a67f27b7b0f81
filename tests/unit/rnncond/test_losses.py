import math

import pytest
import torch
from torch import nn
from torch.autograd import gradcheck
from torch.nn import functional

from rnncond import losses, systems
from rnncond.contract import Source, Unrolled
from rnncond.losses import TeacherForcing, cross_entropy
from rnncond.text.special_tokens import BOS, EOS, PAD, UNK

SENTENCES = ([4, 5, 6], [7], [5, 4, 6, 8, 4], [6, 6])


def model(**config):
    torch.manual_seed(0)
    sizes = {"vocab_size": 9, "feature_size": 3, "embedding": 4, "hidden": 5, "dropout": 0.0}
    return systems.build("show_tell", sizes | config).double()


def rows(sentences, longest=5):
    return torch.tensor([[BOS, *s, EOS, *[PAD] * (longest - len(s))] for s in sentences])


def source(count=2):
    return Source(torch.randn(count, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))


def test_equals_torch_on_sentences_without_padding():
    system = model()
    sums = TeacherForcing(system)(source(), rows(SENTENCES))
    pictures = source().values.repeat_interleave(2, 0)
    expected = 0.0
    for picture, sentence in zip(pictures, SENTENCES, strict=True):
        logits = system(Source(picture[None]), torch.tensor([[BOS, *sentence]]))[0]
        expected += functional.cross_entropy(logits, torch.tensor([*sentence, EOS]), reduction="sum").item()
    assert sums.words == sum(len(sentence) + 1 for sentence in SENTENCES)
    assert sums.loss.item() == pytest.approx(expected, rel=1e-6)
    assert sums.objective.item() == pytest.approx(expected, rel=1e-6)


def test_label_smoothing_by_formula():
    # p = (1/2, 1/4, 1/4), label 0, smoothing 0.3: 0.7 log 2 + 0.1 (log 2 + log 4 + log 4) = 1.2 log 2
    logits = torch.tensor([[0.5, 0.25, 0.25]]).log() + 3
    total, log_probs = cross_entropy(logits, torch.tensor([0]), smoothing=0.3)
    assert total.item() == pytest.approx(1.2 * math.log(2), rel=1e-6)
    assert log_probs.tolist() == pytest.approx([-math.log(2)], rel=1e-6)


def test_label_smoothing_equals_torch():
    logits, labels = torch.randn(7, 11), torch.arange(7)
    total, _ = cross_entropy(logits, labels, smoothing=0.1)
    expected = functional.cross_entropy(logits, labels, label_smoothing=0.1, reduction="sum")
    assert total.item() == pytest.approx(expected.item(), rel=1e-5)


def test_smooths_in_training_only_and_reports_the_plain_loss():
    module = TeacherForcing(model(), smoothing=0.2)
    training, validating = module.train()(source(), rows(SENTENCES)), module.eval()(source(), rows(SENTENCES))
    assert training.objective > training.loss
    assert training.loss == validating.loss == validating.objective.detach()


class Reader(nn.Module):
    """A system that says every word with the same probability, and keeps what it reads."""

    def __init__(self, count=12):
        super().__init__()
        self.count, self.read = count, []

    def encode(self, source):
        self.read.append(source.values)
        return {}

    def unroll(self, memory, inputs):
        self.read.append(inputs)
        return Unrolled(torch.zeros(*inputs.shape, 1), None)

    def project(self, readout):
        return readout.expand(len(readout), self.count)

    def regulariser(self, unrolled, log_probs, mask):
        return 0.0


def test_word_dropout_hides_words_that_are_read_and_none_that_is_said():
    """Of 4,000 words a fifth is UNK: 800 with a standard deviation of 25. Marks are read as they are, and the loss
    counts every word: log 12 each."""
    torch.manual_seed(1)
    system = Reader()
    text = torch.randint(UNK + 1, 12, (200, 20))
    tokens = torch.cat([torch.full((200, 1), BOS), text, torch.full((200, 1), EOS), torch.full((200, 2), PAD)], 1)
    sums = TeacherForcing(system, word_dropout=0.2).train()(Source(tokens), tokens)
    assert sums.words == 200 * 21 and sums.loss.item() == pytest.approx(200 * 21 * math.log(12), rel=1e-5)
    for read, whole in zip(system.read, (tokens, tokens[:, :-1]), strict=True):
        hidden = read != whole
        assert 650 < hidden.sum() < 950 and (read[hidden] == UNK).all() and (whole[hidden] > UNK).all()
    assert not torch.equal(*[read[:, 1:21] for read in system.read]), "source and sentence are hidden apart"


def test_no_word_is_hidden_of_pictures_in_validation_or_without_word_dropout():
    features, tokens = torch.rand(4, 8), rows(SENTENCES)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    for module in (TeacherForcing(Reader(), word_dropout=0.5).eval(), TeacherForcing(Reader()).train()):
        module(Source(tokens), tokens)
        assert all(torch.equal(read, tokens[:, : read.shape[1]]) for read in module.system.read)
    assert torch.equal(torch.get_rng_state(), before), "what is not asked for draws no numbers"
    captioning = TeacherForcing(Reader(), word_dropout=0.5).train()
    captioning(Source(features), tokens)
    assert captioning.system.read[0] is features and not torch.equal(captioning.system.read[1], tokens[:, :-1])


def test_a_row_of_padding_counts_nothing_and_has_no_gradient():
    system = model()
    tokens = rows([*SENTENCES[:3], []])
    tokens[3] = PAD
    sums = TeacherForcing(system)(source(), tokens)
    sums.objective.backward()
    with_padding = [parameter.grad.clone() for parameter in system.parameters()]
    system.zero_grad()
    total = torch.zeros((), dtype=torch.float64)
    for picture, sentences in ((0, SENTENCES[:2]), (1, SENTENCES[2:3])):
        one = TeacherForcing(system)(Source(source().values[picture : picture + 1]), rows(sentences))
        total = total + one.objective
    total.backward()
    assert sums.words == 4 + 2 + 6
    for padded, parameter in zip(with_padding, system.parameters(), strict=True):
        torch.testing.assert_close(padded, parameter.grad)


def test_nothing_but_padding_has_no_loss_and_zero_gradients():
    system = model()
    tokens = torch.full((2, 3), PAD)
    sums = TeacherForcing(system)(source(), tokens)
    sums.objective.backward()
    assert (sums.objective.item(), sums.words.item()) == (0, 0)
    assert all((parameter.grad == 0).all() for parameter in system.parameters())


def test_the_regulariser_gets_log_probabilities_and_is_added():
    system = model()
    seen = {}

    def regulariser(unrolled, log_probs, mask):
        seen.update(log_probs=log_probs, mask=mask, readout=unrolled.readout)
        return torch.tensor(100.0)

    system.regulariser = regulariser
    sums = TeacherForcing(system)(source(), rows(SENTENCES))
    assert seen["mask"].sum(1).tolist() == [4, 2, 6, 3]
    assert seen["log_probs"][~seen["mask"]].eq(0).all()
    assert -seen["log_probs"].sum().item() == pytest.approx(sums.loss.item())
    logits = system(source(), rows(SENTENCES)[:, :-1])
    assert seen["log_probs"][2, 3].item() == pytest.approx(logits.log_softmax(-1)[2, 3, 8].item(), rel=1e-6)
    assert sums.objective.item() == pytest.approx(sums.loss.item() + 100)


def test_log_probs_and_their_means_are_torchs_and_so_are_their_slopes(monkeypatch):
    """In parts of two rows, the last of one."""
    monkeypatch.setattr(losses, "_parts", lambda logits: [slice(0, 2), slice(2, 4), slice(4, 5)])
    torch.manual_seed(1)
    logits = torch.randn(5, 7, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 6, 3, 3, 1])
    expected = logits.log_softmax(1)
    log_probs, means = losses._LogProbs.apply(logits, labels)
    torch.testing.assert_close(log_probs, expected.gather(1, labels[:, None])[:, 0])
    torch.testing.assert_close(means, expected.mean(1))
    assert gradcheck(lambda x: losses._LogProbs.apply(x, labels), [logits])
    assert gradcheck(lambda x: losses._LogProbs.apply(x, labels)[1], [logits])


@pytest.mark.parametrize("dtype", [torch.double, torch.bfloat16])
def test_the_loops_that_are_compiled_say_what_torchs_kernels_do(dtype):
    torch.manual_seed(1)
    logits, labels = torch.randn(5, 7).to(dtype), torch.tensor([0, 6, 3, 3, 1])
    sums = losses._row_sums(logits)
    assert sums[0].dtype is (torch.double if dtype is torch.double else torch.float32)
    torch.testing.assert_close(losses.row_sums.function(logits), sums)
    grads = torch.randn(5).to(sums[0].dtype), torch.randn(5).to(sums[0].dtype)
    before = logits.clone()
    slopes = losses._row_slopes(logits, sums[0], labels, *grads)
    assert slopes.dtype is dtype and torch.equal(logits, before)
    torch.testing.assert_close(losses.row_slopes.function(logits, sums[0], labels, *grads), slopes)


def test_parts_cover_every_row_once():
    for count, width in ((1, 9), (1000, 10_000), (3, 2**20)):
        rows = torch.cat([torch.arange(count)[part] for part in losses._parts(torch.empty(count, width))])
        assert rows.tolist() == list(range(count))
