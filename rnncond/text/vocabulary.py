"""Text to ids and back: ``Vocabulary``, around a tokenizer of the ``tokenizers`` library.

``decode(encode(text))`` is ``text`` in normal form C, with single blanks, and in lower case where the vocabulary has no
capitals, at each level; a ``truecaser`` gives it other capitals back. What cannot come back, in all:

- a word (at level ``word``) or a character (at the others) that was not in the texts of ``train``, or too rare in them,
  and at level ``wordpiece`` a word of more than ``LONGEST`` characters: it is UNK;
- the signs ``▁`` and ``￭``, which come back as ``_`` and ``■``;
- the marks that ``punctuation="drop"`` leaves out, and what ``normalise="moses"`` changes.

Vocabularies that version 0.1.0 trained (format 1) keep no account of blanks at the levels ``word`` and ``wordpiece``:
they guess them, and give ``3. 50`` for ``3.50``. They work as they did.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from rnncond.text import marks, moses
from rnncond.text.special_tokens import EOS, UNK
from rnncond.text.truecase import Truecaser

Level = Literal["word", "bpe", "wordpiece", "unigram"]
Punctuation = Literal["split", "drop", "keep"]
Normalise = Literal["none", "moses"]

SPECIAL = ("<pad>", "<s>", "</s>", "<unk>")
FORMAT = 2
"""The format that ``to_json`` writes for new vocabularies; 1 is read, and kept, too."""
SUBWORDS = 10_000
"""Size of a subword vocabulary unless one is asked for."""
LONGEST = 1000
"""Characters of a word that WordPiece can cut: a sentence of a script without blanks is one word."""
CONTINUES = "##"
"""Marks the continuation of a word in WordPiece pieces."""


@dataclass(frozen=True, kw_only=True)
class Text:
    """How text is cut.

    Attributes:
        level: whole words, or subwords by ``bpe`` (Sennrich et al. 2016), ``wordpiece`` (Schuster and Nakajima 2012)
            or ``unigram`` (Kudo 2018).
        lowercase: fold case.
        punctuation: ``split`` makes each mark a word of its own and joins it again when decoding; ``drop`` leaves
            marks out; ``keep`` cuts at white space only. What a mark is: ``rnncond.text.marks``.
        normalise: ``moses`` first gives each mark one spelling and one place for its spaces (``rnncond.text.moses``).
    """

    level: Level = "word"
    lowercase: bool = True
    punctuation: Punctuation = "split"
    normalise: Normalise = "none"

    def __post_init__(self) -> None:
        for name, kinds in (("level", Level), ("punctuation", Punctuation), ("normalise", Normalise)):
            if getattr(self, name) not in get_args(kinds):
                raise ValueError(f"{name} is {getattr(self, name)!r}; it can be {', '.join(get_args(kinds))}")


class Vocabulary:
    """Words or subwords with ids; PAD, BOS, EOS and UNK are 0 to 3.

    >>> vocabulary = Vocabulary.train(["A dog runs.", "A dog sleeps."])
    >>> vocabulary.decode(vocabulary.encode("a dog sleeps."))
    'a dog sleeps.'
    """

    def __init__(
        self, tokenizer: Tokenizer, text: Text, version: int = FORMAT, truecaser: Truecaser | None = None
    ) -> None:
        self.tokenizer, self.text, self.format, self.truecaser = tokenizer, text, version, truecaser
        first = tuple(tokenizer.id_to_token(number) for number in range(len(SPECIAL)))
        if first != SPECIAL:
            raise ValueError(f"a vocabulary begins with {', '.join(SPECIAL)}; this one with {first}")

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        *,
        level: Level = "word",
        size: int | None = None,
        min_count: int = 1,
        lowercase: bool = True,
        punctuation: Punctuation = "split",
        normalise: Normalise = "none",
    ) -> Vocabulary:
        """A vocabulary of ``texts``; of both languages' texts for a joint one.

        WordPiece and unigram may differ a little from run to run, so keep what was trained: ``to_json``.

        Args:
            size: most entries, the four special ones included; None for every word, or ``SUBWORDS`` subwords.
            min_count: fewest occurrences of a word (of a pair that BPE and WordPiece merge; unigram has no such count).

        Raises:
            ValueError: there is no text, the size has no room, or the level is unknown.
        """
        text = Text(level=level, lowercase=lowercase, punctuation=punctuation, normalise=normalise)
        size = size if size is not None else (SUBWORDS if level != "word" else 2**31)
        if size <= len(SPECIAL) or min_count < 1:
            raise ValueError(f"size is {size} and min_count {min_count}; need above {len(SPECIAL)}, and at least 1")
        tokenizer = Tokenizer(_MODELS[level]())
        tokenizer.normalizer = _normalizer(text)
        tokenizer.pre_tokenizer = _pre_tokenizer(text)
        tokenizer.train_from_iterator(texts, _trainer(level, size, min_count))
        if tokenizer.get_vocab_size() <= len(SPECIAL):
            raise ValueError("no words to make a vocabulary of: the texts are empty, or min_count is too high")
        # Special entries stay in the model's table and are not looked for in text: there, "</s>" is just text.
        description = json.loads(tokenizer.to_str()) | {"added_tokens": []}
        return cls(Tokenizer.from_str(json.dumps(description)), text)

    def truecasing(self, texts: Iterable[str]) -> Vocabulary:
        """The same vocabulary, which decodes with the case that words have in ``texts``.

        Raises:
            ValueError: it has capitals itself.
        """
        if not self.text.lowercase:
            raise ValueError("this vocabulary keeps case, so there is none to give back")
        return Vocabulary(self.tokenizer, self.text, self.format, Truecaser.learn(texts))

    def __len__(self) -> int:
        return self.tokenizer.get_vocab_size()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash(self.to_json())

    def __repr__(self) -> str:
        return f"Vocabulary({len(self)} entries, {self.text}, {self.fingerprint})"

    @property
    def fingerprint(self) -> str:
        """The first 16 hexadecimal digits of SHA-256 over ``to_json``."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]

    @property
    def lowers(self) -> bool:
        """Whether what it decodes is in lower case."""
        return self.text.lowercase and self.truecaser is None

    def encode(self, text: str) -> list[int]:
        """Ids of ``text``, without BOS and EOS."""
        return self.tokenizer.encode(text).ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """``encode`` of many texts, on all cores."""
        return [encoding.ids for encoding in self.tokenizer.encode_batch(list(texts))]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ``ids`` up to the first EOS; PAD and BOS give nothing."""
        words = []
        for number in ids:
            if number == EOS:
                break
            if number >= UNK:
                words.append(int(number))
        text = self._join(self.tokens(words))
        return self.truecaser(text) if self.truecaser else text

    def tokens(self, ids: Iterable[int]) -> list[str]:
        """The entry of each id as the vocabulary has it, with special ones and the signs of ``rnncond.text.marks``."""
        entries = []
        for number in ids:
            entry = self.tokenizer.id_to_token(int(number))
            if entry is None:
                raise ValueError(f"id {number} is outside this vocabulary of {len(self)} entries")
            entries.append(entry)
        return entries

    def _join(self, tokens: list[str]) -> str:
        if self.text.level in ("bpe", "unigram"):
            text = "".join(tokens).replace(marks.SPACE, " ").strip()
            return text.replace(marks.GLUE, "") if self.format > 1 else text
        text = " ".join(tokens)
        if self.text.level == "wordpiece":
            text = text.replace(" " + CONTINUES, "")
        if self.text.punctuation == "split":
            return marks.join(text) if self.format > 1 else marks.guess(text)
        return text.replace(marks.GLUE, "") if self.format > 1 else text

    def to_json(self) -> str:
        """All of it as JSON text, the same text for equal vocabularies."""
        content = {"format": self.format, "text": asdict(self.text), "tokenizer": json.loads(self.tokenizer.to_str())}
        if self.truecaser:
            content["truecaser"] = self.truecaser.as_json()
        return json.dumps(content, sort_keys=True, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Vocabulary:
        """The vocabulary that ``to_json`` gave as ``text``.

        Raises:
            ValueError: it is not what ``to_json`` gives.
        """
        try:
            content = json.loads(text)
            version = content["format"]
            if version not in (1, FORMAT):
                raise ValueError(f"the vocabulary's format is {version}; this version reads 1 and {FORMAT}")
            kind, described = Text(**content["text"]), json.dumps(content["tokenizer"])
            truecaser = Truecaser(**content["truecaser"]) if "truecaser" in content else None
        except (KeyError, TypeError) as error:
            raise ValueError(f"this is not the JSON of a vocabulary: {type(error).__name__} {error}") from error
        try:
            tokenizer = Tokenizer.from_str(described)
        except Exception as error:  # the library has no class of its own for it
            raise ValueError(f"the vocabulary's tokenizer is damaged: {error}") from error
        return cls(tokenizer, kind, version, truecaser)


_MODELS: dict[str, Callable[[], models.Model]] = {
    "word": lambda: models.WordLevel(unk_token=SPECIAL[UNK]),
    "bpe": lambda: models.BPE(unk_token=SPECIAL[UNK], fuse_unk=True),
    "wordpiece": lambda: models.WordPiece(unk_token=SPECIAL[UNK], max_input_chars_per_word=LONGEST),
    "unigram": models.Unigram,
}


def _trainer(level: Level, size: int, min_count: int) -> trainers.Trainer:
    common: dict[str, Any] = {"vocab_size": size, "special_tokens": list(SPECIAL), "show_progress": False}
    if level == "word":
        return trainers.WordLevelTrainer(min_frequency=min_count, **common)
    if level == "bpe":
        return trainers.BpeTrainer(min_frequency=min_count, **common)
    if level == "wordpiece":
        return trainers.WordPieceTrainer(min_frequency=min_count, continuing_subword_prefix=CONTINUES, **common)
    return trainers.UnigramTrainer(unk_token=SPECIAL[UNK], **common)


def _normalizer(text: Text) -> normalizers.Normalizer:
    steps: list[normalizers.Normalizer] = [normalizers.NFC()]
    if text.normalise == "moses":
        steps += moses.steps()
    if text.lowercase:
        steps.append(normalizers.Lowercase())
    steps += marks.own_signs()
    if text.punctuation == "drop":
        steps.append(normalizers.Replace(Regex(marks.MARK), " "))
    steps += [normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
    if text.punctuation == "split" and text.level in ("word", "wordpiece"):
        steps += marks.separate()
    elif text.punctuation == "keep":
        steps += _unlike_entries(text)
    return normalizers.Sequence(steps)


def _unlike_entries(text: Text) -> list[normalizers.Normalizer]:
    """Steps that keep words which no mark is split from from looking like a special entry or a continued piece."""
    special = normalizers.Replace(Regex(f"(?<=<)(?={'|'.join(entry[1:] for entry in SPECIAL)})"), marks.GLUE)
    continued = normalizers.Replace(Regex("(?<=#)(?=#)"), marks.GLUE)
    return [special, continued] if text.level == "wordpiece" else [special]


def _pre_tokenizer(text: Text) -> pre_tokenizers.PreTokenizer:
    if text.level in ("word", "wordpiece"):
        return pre_tokenizers.WhitespaceSplit()
    spaces = pre_tokenizers.Metaspace(replacement=marks.SPACE, prepend_scheme="always")
    split = pre_tokenizers.Split(Regex(marks.MARK), behavior="isolated")
    return pre_tokenizers.Sequence([spaces, split]) if text.punctuation == "split" else spaces
