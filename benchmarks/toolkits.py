"""The peers of peers.py: three toolkits of the package index, their environment, and each one's model, loss and search.

All are installed without their dependencies, which ask for an old torch or for one of their own; what their models need
is in this project's environment, and what they import beside that is mocked. Imports of toolkits are in the functions
that run in that environment.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import step_profile
import torch
from step_profile import FEATURES, WIDTH, WORDS
from torch import Tensor, nn
from torch.nn import functional
from translation_decoder import SIZE, STEPS, VOCAB

from rnncond.text.special_tokens import BOS, EOS, PAD, UNK

PEERS = {"joeynmt": "2.3.0", "OpenNMT-py": "3.5.1", "configargparse": "1.7.1", "mmf": "1.0.0rc10"}
BESIDE_THE_MODELS = [
    "torch.utils.tensorboard", "sentencepiece", "subword_nmt", "subword_nmt.apply_bpe", "seaborn",
    "pyonmttok", "spacy", "spacy.language", "spacy.tokens", "spacy.util", "ctranslate2", "ahocorasick", "rapidfuzz",
    "fasttext", "waitress", "datasets", "sacremoses",
    "omegaconf", "transformers.configuration_auto", "transformers.modeling_auto", "transformers.modeling_bert",
    "mmf.utils.build", "mmf.utils.checkpoint", "mmf.utils.configuration", "mmf.utils.download", "mmf.utils.env",
    "mmf.utils.vocab",
]  # fmt: skip
"""What the toolkits import for text, servers, logs, downloads and other models, none of which is used here."""


def environment(folder: Path) -> Path:
    """The Python of the toolkits' environment, made if it is not there."""
    python = folder / "bin" / "python"
    wanted = " ".join(f"{name}=={version}" for name, version in PEERS.items())
    stamp = folder / "installed"
    if not stamp.exists() or stamp.read_text() != wanted:
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        install = [python, "-m", "pip", "install", "--quiet", "--no-deps", *wanted.split()]
        # By this name mmf's setup.py knows that its extension in C, of a model for other tasks, is not wanted.
        subprocess.run(install, check=True, env=os.environ | {"READTHEDOCS": "True"})
        site = next(folder.glob("lib/python*/site-packages"))
        (site / "project.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
        stamp.write_text(wanted)
    return python


def mock_the_rest() -> None:
    """Mock what is beside the models; called before any toolkit is imported."""
    for name in BESIDE_THE_MODELS:
        sys.modules.setdefault(name, MagicMock())
    # Empty packages in place of those whose __init__ imports every model and data set.
    root = Path(importlib.util.find_spec("mmf").origin).parent
    for name, folder in (("mmf", root), ("mmf.models", root / "models"), ("mmf.modules", root / "modules")):
        sys.modules[name] = ModuleType(name)
        sys.modules[name].__path__ = [str(folder)]


class Joey:
    """joeynmt: ``joeynmt.model`` and ``joeynmt.search``."""

    def __init__(self) -> None:
        from joeynmt.model import build_model
        from joeynmt.vocabulary import Vocabulary

        special = {"pad": PAD, "bos": BOS, "eos": EOS, "unk": UNK}
        settings = {f"{name}_{part}": value for name, id in special.items() for part, value in (("id", id),)}
        settings |= {f"{name}_token": f"<{name}>" for name in special}
        order = SimpleNamespace(**settings, sep_token=None, sep_id=None, lang_tags=[])
        vocabulary = Vocabulary.__new__(Vocabulary)
        vocabulary.specials, vocabulary.lang_tags = [f"<{name}>" for name in special], []
        vocabulary._itos = [*vocabulary.specials, *map(str, range(4, VOCAB))]
        vocabulary._stoi = {word: id for id, word in enumerate(vocabulary._itos)}
        for name, id in special.items():
            setattr(vocabulary, f"{name}_index", id)
        vocabulary.sep_index = order.sep_id
        layer = {"rnn_type": "lstm", "embeddings": {"embedding_dim": SIZE}, "hidden_size": SIZE, "num_layers": 1}
        decoder = layer | {"attention": "bahdanau", "input_feeding": True, "init_hidden": "bridge"}
        config = {"encoder": {"type": "recurrent", "bidirectional": True} | layer,
                  "decoder": {"type": "recurrent"} | decoder}  # fmt: skip
        self.model = build_model(config, vocabulary, vocabulary)
        self.model.loss_function = ("crossentropy", 0.0)
        self.model.eval()

    def inputs(self, source: Tensor) -> dict[str, Tensor]:
        lengths = (source != PAD).sum(1)
        return {"src": source, "src_length": lengths, "src_mask": (source != PAD)[:, None]}

    def loss(self, source: Tensor, targets: Tensor) -> Tensor:
        labels = targets[:, 1:]
        more = {"trg_input": targets[:, :-1], "trg": labels, "trg_mask": (labels != PAD)[:, None]}
        return self.model(return_type="loss", **self.inputs(source), **more)[0]

    @torch.no_grad()
    def decode(self, source: Tensor, beam: int) -> None:
        from joeynmt.search import beam_search, greedy

        inputs = self.inputs(source)
        output, hidden, _, _ = self.model(return_type="encode", **inputs)
        common = {"model": self.model, "encoder_output": output, "encoder_hidden": hidden,
                  "src_mask": inputs["src_mask"], "max_output_length": STEPS, "min_output_length": STEPS,
                  "generate_unk": False}  # fmt: skip
        if beam > 1:
            beam_search(beam_size=beam, alpha=-1, n_best=1, **common)
        else:
            greedy(**common)


class OpenNmt:
    """OpenNMT-py: ``onmt.models``, and the search of ``onmt.translate``."""

    def __init__(self) -> None:
        from onmt.decoders.decoder import InputFeedRNNDecoder
        from onmt.encoders.rnn_encoder import RNNEncoder
        from onmt.models import NMTModel
        from onmt.modules import Embeddings

        words = [Embeddings(SIZE, VOCAB, PAD) for _ in range(2)]
        encoder = RNNEncoder("LSTM", True, 1, SIZE, embeddings=words[0])
        self.model = NMTModel(encoder, InputFeedRNNDecoder("LSTM", True, 1, SIZE, attn_type="mlp", embeddings=words[1]))
        self.model.generator = torch.nn.Linear(SIZE, VOCAB)
        self.model.eval()

    def loss(self, source: Tensor, targets: Tensor) -> Tensor:
        lengths = torch.full((len(source),), source.shape[1])
        outputs, _ = self.model(source[..., None], targets[..., None], lengths)
        logits = self.model.generator(outputs.flatten(0, 1))
        return functional.cross_entropy(logits, targets[:, 1:].flatten(), ignore_index=PAD, reduction="sum")

    @torch.no_grad()
    def decode(self, source: Tensor, beam: int) -> None:
        from onmt.translate.beam_search import GNMTGlobalScorer
        from onmt.translate.translator import Translator

        scorer = GNMTGlobalScorer(0.0, 0.0, "none", "none")
        translator = Translator(
            self.model, {"src": Words(), "tgt": Words(), "decoder_start_token": "<s>", "data_task": "seq2seq"},
            beam_size=beam, min_length=STEPS, max_length=STEPS, max_length_ratio=0, global_scorer=scorer,
            random_sampling_topk=1, ban_unk_token=True, report_score=False,
        )  # fmt: skip
        lengths = torch.full((len(source),), source.shape[1])
        translator.translate_batch({"src": source[..., None], "srclen": lengths}, False)


class Words(list):
    """The vocabulary that OpenNMT-py's search asks for its special tokens."""

    def lookup_token(self, token: str) -> int:
        return {"<blank>": PAD, "<s>": BOS, "</s>": EOS}.get(token, UNK)

    def __len__(self) -> int:
        return VOCAB


class Mmf:
    """mmf: ``mmf.models.butd``, its cross-entropy, its greedy loop, and the beam search of ``mmf.utils.text``."""

    def __init__(self) -> None:
        importlib.import_module("mmf.modules.losses")
        importlib.import_module("mmf.utils.text")
        from mmf.common.registry import registry
        from mmf.common.sample import Sample
        from mmf.models.butd import BUTD

        size, vocab, depth = WIDTH["pictures"], step_profile.VOCAB["pictures"], FEATURES["top_down"][-1]
        layer = {"hidden_dim": size, "dropout": 0.0}
        attention = {"modal_combine": {"type": "top_down_attention_lstm", "params": {"attention_dim": size, **layer}},
                     "transform": {"type": "linear", "params": {"out_dim": 1}}, "normalization": "softmax"}  # fmt: skip
        config = {
            "losses": ["caption_cross_entropy"], "model_data_dir": "",
            "embedding_dim": size, "image_feature_dim": depth,
            "image_feature_encodings": [Sample({"type": "default", "params": {}})],
            "image_feature_embeddings": [attention],
            "classifier": {"type": "language_decoder", "params": {"feature_dim": depth, "fc_bias_init": 0, **layer}},
        }  # fmt: skip
        words = {"get_size": lambda: vocab, "get_embedding": lambda kind, embedding_dim: kind(vocab, embedding_dim),
                 "SOS_INDEX": BOS, "EOS_INDEX": EOS}  # fmt: skip
        self.text = SimpleNamespace(vocab=SimpleNamespace(**words), max_length=WORDS)
        registry.register("coco_text_processor", self.text)
        registry.register("config", Sample({"datasets": "coco", "evaluation": {"predict": False}}))
        # mmf's own mapping in place of omegaconf's, which takes longer to read.
        self.model = BUTD(Sample(config))
        self.model.build()
        self.model.init_losses()
        self.model.eval()
        self.rows: list[int] = []
        self.model.classifier.register_forward_hook(self.end_after_words)

    def loss(self, source: Tensor, targets: Tensor) -> Tensor:
        lengths = torch.full((len(targets),), targets.shape[1])
        batch = {"text": targets, "answers": targets[:, None], "caption_len": lengths, "image_feature_0": source}
        output = self.run(batch | {"dataset_name": "coco", "dataset_type": "train"}, "greedy", targets.shape[1] - 1)
        (mean,) = output["losses"].values()
        return mean * targets[:, 1:].numel()

    @torch.no_grad()
    def decode(self, source: Tensor, beam: int) -> None:
        search, pictures = ("beam_search", 1) if beam > 1 else ("greedy", len(source))
        for values in source.split(pictures):
            self.rows.clear()
            answers = torch.full((pictures, 1, WORDS + 2), PAD)
            output = self.run({"answers": answers, "image_feature_0": values}, search, WORDS + 1, beam)
            assert self.rows == [beam * pictures] * (WORDS + 1)
            assert beam == 1 or output["captions"].shape == (1, WORDS + 2)

    def run(self, batch: dict[str, Any], search: str, steps: int, beam: int = 1) -> dict[str, Any]:
        from mmf.common.sample import SampleList

        # A pretrained model's output, as a user decodes with it, comes without the loss.
        self.model.is_pretrained = not self.model.training
        self.model.config.inference = {"type": search, "params": {"beam_length": beam}}
        self.text.max_length = steps
        output: dict[str, Any] = self.model(SampleList(batch))
        return output

    def end_after_words(self, _: nn.Module, __: Any, logits: Tensor) -> None:
        """Let a search choose EOS in its last step and not before, and count the rows of every step."""
        if not self.model.training:
            self.rows.append(len(logits))
            logits[:, EOS] = 1e9 if len(self.rows) == WORDS + 1 else -1e9
