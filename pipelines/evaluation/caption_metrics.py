"""Scores of captions against references: BLEU-1 to 4, ROUGE-L, CIDEr, and METEOR and SPICE where Java can run them.

All of them as papers print them, times 100: BLEU-4 27.7, CIDEr 85.5. The formulas are pycocoevalcap's, which published
scores were computed with. Published captions went through Stanford's Penn Treebank tokenizer first, which needs Java.
Without Java our own ``simple`` tokenizer takes its place: it differs on none of 4,250 captions of Flickr8k, and on 8 of
10,000 of Multi30k.

CIDEr weighs an n-gram by the images of *this* set that have it in their references: of a single image it is 0, and
scores of different sets do not compare.
"""

from __future__ import annotations

import contextlib
import html
import io
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pipelines.config.choices import Tokenizer
from pipelines.errors import UserError
from pipelines.inputs.entries import naming

Sentences = dict[str, list[str]]
"""Tokenised sentences, words parted by single blanks, by image id; lower case, without punctuation."""

REMOVED = frozenset(["''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";", '"'])
"""Punctuation that pycocoevalcap removes after tokenising."""
BRACKETS = {"(": "-lrb-", ")": "-rrb-", "{": "-lcb-", "}": "-rcb-", "[": "-lsb-", "]": "-rsb-"}
"""How the Penn Treebank spells brackets. They stay: pycocoevalcap's list has them in capitals, which never match."""


@dataclass(frozen=True)
class Scores:
    """Attributes:
    corpus: score of the whole set by name.
    per_image: CIDEr, BLEU-4 and ROUGE_L of each image by its id.
    tokenizer: ``ptb`` or ``simple``.
    left_out: scores that could not be computed, with the reason.
    """

    corpus: dict[str, float]
    per_image: dict[str, dict[str, float]]
    tokenizer: str
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def comparability(self) -> str:
        if self.tokenizer == "ptb":
            return "as published: Penn Treebank tokenizer and formulas of pycocoevalcap"
        return "nearly as published: formulas of pycocoevalcap, but our own tokenizer instead of Java's"


def caption_scores(
    hypotheses: dict[str, str], references: dict[str, list[str]], tokenizer: Tokenizer = "simple"
) -> dict[str, float]:
    """BLEU-1 to 4, ROUGE_L and CIDEr, times 100. With the simple tokenizer no process is started: for validation.

    Args:
        hypotheses: a caption by image id; one may be empty, and scores nothing.
        references: at least one by image id, of the same images.

    Raises:
        UserError: hypotheses and references are not of the same images.
    """
    return score(hypotheses, references, tokenizer, java_scores=False).corpus


def score(
    hypotheses: dict[str, str],
    references: dict[str, list[str]],
    tokenizer: Tokenizer = "auto",
    java_scores: bool = True,
) -> Scores:
    """Everything that can be computed here: as ``caption_scores``, with METEOR and SPICE, and the scores per image."""
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    check_same_images(hypotheses, references)
    tokenizer = choose_tokeniser(tokenizer)
    tokenise = ptb_tokenise if tokenizer == "ptb" else simple_tokenise
    said = tokenise({image_id: [hypothesis] for image_id, hypothesis in hypotheses.items()})
    meant = tokenise({image_id: references[image_id] for image_id in hypotheses})

    with contextlib.redirect_stdout(io.StringIO()):
        bleu, bleu_each = Bleu(4).compute_score(meant, said, verbose=0)
        rouge, rouge_each = Rouge().compute_score(meant, said)
        cider, cider_each = Cider().compute_score(meant, said)
    corpus = {f"BLEU-{n}": value for n, value in enumerate(bleu, 1)} | {"ROUGE_L": rouge, "CIDEr": cider}
    left_out: dict[str, str] = {}
    for name, compute in (("METEOR", meteor), ("SPICE", spice)) if java_scores else ():
        try:
            if tokenizer != "ptb":
                raise Unavailable("it needs Java and the tokenizer ptb")
            corpus[name] = compute(meant, said)
        except Unavailable as reason:
            left_out[name] = str(reason)
    each = zip(said, cider_each, bleu_each[3], rouge_each, strict=True)
    per_image = {i: {"CIDEr": percent(c), "BLEU-4": percent(b), "ROUGE_L": percent(r)} for i, c, b, r in each}
    return Scores({name: percent(value) for name, value in corpus.items()}, per_image, tokenizer, left_out)


def shuffled_cider(
    hypotheses: dict[str, str], references: dict[str, list[str]], tokenizer: Tokenizer = "auto", rounds: int = 5
) -> float:
    """CIDEr of captions made from another image's features: the mean over ``rounds`` shuffles without a fixed image.

    A caption depends on nothing but the features, so the caption of image i given the features of image j is that of
    image j, and none has to be made again.

    Raises:
        UserError: there is only one image.
    """
    from pycocoevalcap.cider.cider import Cider

    check_same_images(hypotheses, references)
    if len(hypotheses) < 2:
        raise UserError("Shuffled captions need two images or more.")
    tokenise = ptb_tokenise if choose_tokeniser(tokenizer) == "ptb" else simple_tokenise
    order = np.random.default_rng(1).permutation(sorted(hypotheses)).tolist()
    said = tokenise({image_id: [hypotheses[image_id]] for image_id in order})
    meant = tokenise({image_id: references[image_id] for image_id in order})
    scores = []
    for shift in range(1, min(rounds, len(order) - 1) + 1):
        others = {image_id: said[order[place - shift]] for place, image_id in enumerate(order)}
        scores.append(Cider().compute_score(meant, others)[0])
    return percent(np.mean(scores))


def percent(value: float) -> float:
    return 100 * float(value)


def check_same_images(hypotheses: dict[str, str], references: dict[str, list[str]]) -> None:
    uncaptioned = [image_id for image_id in references if image_id not in hypotheses]
    unknown = [image_id for image_id in hypotheses if not references.get(image_id)]
    problems = []
    if not references:
        problems.append("there are no references")
    if uncaptioned:
        problems.append(f"{naming(uncaptioned, 'image')} of {len(references):,} with references have no caption")
    if unknown:
        problems.append(f"{naming(unknown, 'caption')} of {len(hypotheses):,} are of images without references")
    if problems:
        raise UserError("Captions and references are not of the same images: " + "; ".join(problems) + ".")


# Tokenizers


def choose_tokeniser(wanted: Tokenizer) -> str:
    if wanted == "simple" or (wanted == "auto" and not shutil.which("java")):
        return "simple"
    if not shutil.which("java"):
        raise UserError("The tokenizer ptb needs Java, and there is no `java` on the path. Install a Java runtime, or "
                        "use the tokenizer simple, which differs on about one caption in a thousand.")  # fmt: skip
    return "ptb"


def simple_tokenise(sentences: Sentences) -> Sentences:
    return {name: [" ".join(simple_words(line)) for line in lines] for name, lines in sentences.items()}


WORD = re.compile(
    r"[^\W_]+(?=n't\b)|n't\b|'(?:s|re|ve|ll|d|m)\b"  # is n't, dog 's
    r"|\d+(?:[.,:/]\d+)*(?:(?:-|(?<=\d))[^\W_]+)*"  # 5,000  3.50  1990s  4-year-old
    r"|(?:[^\W_]\.){2,}"  # u.s.
    r"|[^\W_]+(?:[-/&]+[^\W_]+)*"  # t-shirt
    r"|[^\w\s]|_+"
)


def simple_words(sentence: str) -> list[str]:
    """Lower-case words, clitics apart, hyphenated words whole, and no punctuation."""
    plain = html.unescape(sentence).lower().replace("\u2019", "'")
    return [BRACKETS.get(word, word) for word in WORD.findall(plain) if word not in REMOVED]


def ptb_tokenise(sentences: Sentences) -> Sentences:
    """All sentences through pycocoevalcap's PTBTokenizer in one Java process, fed by pipe so that it writes no file."""
    flat = [" ".join(line.split()) for lines in sentences.values() for line in lines]
    filled = [line for line in flat if line]
    tokenised = iter(run_ptb(filled)) if filled else iter(())
    words = iter([next(tokenised) if line else "" for line in flat])
    return {name: [next(words) for _ in lines] for name, lines in sentences.items()}


def run_ptb(lines: list[str]) -> list[str]:
    from pycocoevalcap.tokenizer import ptbtokenizer

    jar = Path(ptbtokenizer.__file__).with_name(ptbtokenizer.STANFORD_CORENLP_3_4_1_JAR)
    command = ["java", "-cp", str(jar), "edu.stanford.nlp.process.PTBTokenizer"]
    command += ["-preserveLines", "-lowerCase", "-encoding", "UTF-8"]
    done = subprocess.run(command, input="\n".join(lines).encode(), capture_output=True)
    tokenised = done.stdout.decode().split("\n")
    if done.returncode or len(tokenised) != len(lines):
        reason = done.stderr.decode(errors="replace").strip()[-300:]
        raise UserError(f"Java's tokenizer failed on {len(lines):,} sentences: {reason}\nUse the tokenizer simple.")
    return [" ".join(word for word in line.split() if word not in ptbtokenizer.PUNCTUATIONS) for line in tokenised]


# Scores that are Java programs


class Unavailable(Exception):
    """A score cannot be computed here; the text says why."""


def meteor(meant: Sentences, said: Sentences) -> float:
    from pycocoevalcap.meteor.meteor import Meteor

    scorer = Meteor()
    try:
        return scorer.compute_score(meant, said)[0]
    except (OSError, ValueError) as error:
        raise Unavailable(f"Java ended with an error: {error}") from None


def spice(meant: Sentences, said: Sentences) -> float:
    """SPICE, only where its CoreNLP models already lie beside it: pycocoevalcap would download them."""
    from pycocoevalcap.spice import get_stanford_models as models
    from pycocoevalcap.spice.spice import Spice

    jars = [Path(models.SPICEDIR, models.SPICELIB, f"{models.JAR}{part}.jar") for part in ("", "-models")]
    if not all(jar.exists() for jar in jars):
        raise Unavailable(f"its models ({models.JAR}, 300 MB) are not installed; nothing is downloaded while scoring")
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            value = Spice().compute_score(meant, said)[0]
    except (OSError, subprocess.CalledProcessError) as error:
        raise Unavailable(f"Java ended with an error: {error}") from None
    if np.isnan(value):
        raise Unavailable("it gave no number")
    return value
