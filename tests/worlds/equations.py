"""The papers' equations in plain numpy, one sentence and one word at a time, from a model's weights."""

import numpy as np
import torch


def weights(model) -> dict[str, np.ndarray]:
    return {name: tensor.detach().double().numpy() for name, tensor in model.state_dict().items()}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x):
    e = np.exp(x - x.max())
    return e / e.sum()


def maxout(x):
    """Pairs (j, j + R): which units make a pair is a matter of numbering."""
    half = len(x) // 2
    return np.array([max(x[j], x[j + half]) for j in range(half)])


def lstm(w, x, state):
    """Input, forget, new and output rows of each matrix, in that order; w is (W, U, b of W, b of U)."""
    h, c = state
    i, f, g, o = np.split(w[0] @ x + w[2] + w[1] @ h + w[3], 4)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def gru(w, x, state):
    """Reset, update and new rows; the reset gate acts on U h + b, as in torch."""
    (h,) = state
    wr, wz, wn = np.split(w[0] @ x + w[2], 3)
    ur, uz, un = np.split(w[1] @ h + w[3], 3)
    z, new = sigmoid(wz + uz), np.tanh(wn + sigmoid(wr + ur) * un)
    return ((1 - z) * new + z * h,)


CELLS = {"lstm": (lstm, 2), "gru": (gru, 1)}


def layer(w, name, suffix=""):
    """The four tensors of one direction of torch's layer ``name``."""
    return [w[f"{name}.{kind}_l0{suffix}"] for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]


def feedback_layer(w, name):
    """A FeedbackCell as one matrix over [word; feedback]; its U has the second bias."""
    matrix = np.concatenate([w[f"{name}.words.weight"], w[f"{name}.feedback.weight"]], 1)
    return [matrix, w[f"{name}.recurrent.weight"], w[f"{name}.words.bias"], w[f"{name}.recurrent.bias"]]


def read(cell, w, xs, hidden):
    """Outputs at each of ``xs`` and the final state, from zeros."""
    step, parts = CELLS[cell]
    state, outputs = (np.zeros(hidden),) * parts, []
    for x in xs:
        state = step(w, x, state)
        outputs.append(state[0])
    return outputs, state


def read_both(cell, w, name, xs, hidden):
    """A bidirectional layer: outputs side by side, and the backward direction's state at the first word."""
    forward, _ = read(cell, layer(w, name), xs, hidden)
    backward, first = read(cell, layer(w, name, "_reverse"), xs[::-1], hidden)
    return [np.concatenate(pair) for pair in zip(forward, backward[::-1], strict=True)], first


def additive(w, name, query, annotations):
    """alpha_i of v . tanh(W s + U h_i)."""
    energies = [
        w[f"{name}.energy.weight"][0] @ np.tanh(w[f"{name}.query.weight"] @ query + w[f"{name}.key.weight"] @ h)
        for h in annotations
    ]
    return softmax(np.array(energies))


def mean(alpha, annotations):
    return sum(a * h for a, h in zip(alpha, annotations, strict=True))


def assert_logits(model, source, target, expected):
    """The model's logits for one pair of sentences, by forward and float64, are the ``expected`` ones."""
    from rnncond.contract import Source

    logits = model(Source(torch.tensor([source])), torch.tensor([target]))[0]
    np.testing.assert_allclose(logits.detach().numpy(), np.array(expected), rtol=0, atol=1e-10)


SOURCE, TARGET = [5, 4, 9, 2], [1, 6, 7]
SIZES = {"source_vocab_size": 11, "vocab_size": 10, "embedding": 5, "hidden": 6, "dropout": 0.0}


def build(name, **options):
    from rnncond import systems

    torch.manual_seed(7)
    return systems.build(name, {**SIZES, **options}).double().eval()


def output(w, readout):
    return w["words.output.weight"] @ readout + w["words.output.bias"]


VOCAB, WIDTH, PLACES = 11, 5, 4
CAPTIONS = torch.tensor([[1, 7, 4], [1, 9, 10]])


def make_captioner(system, **options):
    """A float64 model whose parameters, biases too, are far from zero; and all its tensors in numpy."""
    from rnncond import systems

    torch.manual_seed(4)
    sizes = {"vocab_size": VOCAB, "feature_size": WIDTH, "embedding": 6, "hidden": 7}
    model = systems.build(system, {**sizes, **options}).double().eval()
    for parameter in model.parameters():
        parameter.data.normal_(std=0.6)
    model.standardise.fit(torch.randn(WIDTH).double(), torch.rand(WIDTH).double() + 0.5)
    return model, weights(model)


def features(*shape):
    from rnncond.contract import Source

    return Source(torch.randn(*shape, generator=torch.Generator().manual_seed(6), dtype=torch.float64))


def linear(w, name, x):
    return w[f"{name}.weight"] @ x + w.get(f"{name}.bias", 0)


def lstm_cell(w, name, x, h, c):
    return lstm([w[f"{name}.{kind}"] for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")], x, (h, c))


def look(w, query, places):
    """alpha_i of v . tanh(W s + U a_i), and the mean of a_i."""
    sums = [w["attend.query.weight"] @ query + linear(w, "attend.key", place) for place in places]
    alpha = softmax(np.array([w["attend.energy.weight"][0] @ np.tanh(total) for total in sums]))
    return alpha, mean(alpha, places)


def assert_follows(model, source, steps):
    """``steps(image, words)`` gives logits and attention word by word, for each of two captions, as the model does."""
    unrolled = model.unroll(model.encode(source), CAPTIONS)
    logits = model.project(unrolled.readout).detach().numpy()
    images = model.standardise(source.values).numpy()
    for row, words in enumerate(CAPTIONS.tolist()):
        for t, (expected, alpha) in enumerate(steps(images[row], words)):
            np.testing.assert_allclose(logits[row, t], expected, rtol=0, atol=1e-12)
            if alpha is not None:
                np.testing.assert_allclose(unrolled.attention[row, t].detach().numpy(), alpha, rtol=0, atol=1e-12)
        assert t == len(words) - 1


def assert_same_gradients(module, model, monkeypatch):
    """Of a weighted sum of logits, whether ``module`` multiplies the places by the weights, or the contexts."""
    factors = torch.randn(*CAPTIONS.shape, VOCAB, generator=torch.Generator().manual_seed(8), dtype=torch.float64)
    found = []
    for projected in (False, True):
        monkeypatch.setattr(module, "cheaper_projected", lambda *sizes, answer=projected: answer)
        torch.manual_seed(9)  # hard attention draws its places, dropout its units
        model.zero_grad()
        unrolled = model.unroll(model.encode(features(2, PLACES, WIDTH)), CAPTIONS)
        (model.project(unrolled.readout) * factors).sum().backward()
        found.append({name: parameter.grad for name, parameter in model.named_parameters()})
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=0, atol=1e-10, msg=name)
