import torch
from torch.autograd import gradcheck

from rnncond import losses


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


def test_parts_cover_every_row_once():
    for count, width in ((1, 9), (1000, 10_000), (3, 2**20)):
        rows = torch.cat([torch.arange(count)[part] for part in losses._parts(torch.empty(count, width))])
        assert rows.tolist() == list(range(count))
