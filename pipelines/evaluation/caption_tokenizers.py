"""Captions cut into words for their scores, in lower case and without punctuation.

``ptb`` is what published scores of captions went through, Stanford's Penn Treebank tokenizer, a program in Java.
``simple`` is ours, and takes its place where there is no Java. It was made on the 35,000 captions of Flickr8k and the
31,014 of Multi30k, and cuts all of them as Java does; it differs on emoticons and other rare marks. The others are
sacrebleu's, for languages that neither can cut.
"""

from __future__ import annotations

import html
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import regex

from pipelines.errors import UserError
from pipelines.evaluation.sacrebleu_tokenizers import words_by

Sentences = dict[str, list[str]]
"""Tokenized sentences, words parted by single blanks, by image id; lower case, without punctuation."""
Tokenize = Callable[[Sentences], Sentences]

REMOVED = frozenset(["''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";", '"', "..", "....", "---"])
"""Punctuation that pycocoevalcap removes after the Penn Treebank tokenizer, in the spellings of both."""
BRACKETS = {"(": "-lrb-", ")": "-rrb-", "{": "-lcb-", "}": "-rcb-", "[": "-lsb-", "]": "-rsb-"}
"""How the Penn Treebank spells brackets. They stay: pycocoevalcap's list has them in capitals, which never match."""
SPELLINGS = str.maketrans({
    "\u2018": "'", "\u2019": "'", "\u201b": "'", "\u2039": "'", "\u203a": "'",
    "\u201c": '"', "\u201d": '"', "\u00ab": '"', "\u00bb": '"', "\u2026": "...",
    "\u2010": "-", "\u2012": "-", "\u2013": " - ", "\u2014": " - ", "\u2015": " - ",
    "\u00ad": "", "\u200d": "", "\ufe0f": "", "\u00a0": " ",
    "\u00bd": " 1/2 ", "\u00bc": " 1/4 ", "\u00be": " 3/4 ", "\u2153": " 1/3 ", "\u00a3": " # ", "\u20ac": " $ ",
})  # fmt: skip
"""Marks that Stanford's tokenizer writes otherwise or removes; the pound and the euro as the Penn Treebank did."""

ABBREVIATIONS = (
    "mr|mrs|ms|messrs|dr|drs|prof|sgt|cpl|pvt|lt|col|gen|cmdr|capt|adm|brig|maj|rev|hon|gov|sen|rep|pres|det|supt|atty"
    "|mt|st|ste|ave|blvd|rd|dept|bldg|sq|tel|est|ext|etc|al|seq|vs|ft|fla|inc|co|cos|corp|ltd|plc|bros|jr|sr|esq|ph"
    "|univ|assn|intl|jan|feb|mar|apr|jun|jul|aug|sep|sept|oct|nov|dec|mon|tue|tues|wed|thu|thurs|fri|calif|ga|va|ind|ky"
    "|md|mo|minn|mich|ala|ariz|colo|conn|wis|vt|tenn|okla|nev|neb|mont|kan|cf|alex|wm|jos|ct"
)
CAPITAL = "Miss|Tex|Mass|Pa|Ill|La|Wash|Ore|Ark|Del"
"""Abbreviations that are words, too, where they begin with a small letter."""
BEFORE_NUMBERS = "no|nos|art|pp|op|figs"
APOSTROPHES = (
    r"'n'|'n\b|'(?:em|cause|till?)\b|'\d0s\b|'\d\d\b|ol'|li'l\b|e'er\b|ev'ry\b|c'mon\b|ma'am\b|d'you\b|d'ye\b"
    r"|o'er\b|[a-hj-xz]'[a-z]{3,}|[a-z]+[aeiouy]'[aeiou][a-z]*|[dj]'(?=[a-z])"  # o'clock, d'oeuvres
)
"""Words with an apostrophe that is a letter of theirs."""
WORD = regex.compile(
    r"https?://\S+|www\.\S+|[\w.+-]+@[\w-]+(?:\.[\w-]+)+|</?[a-z][^<>]*>"
    r"|can(?=not\b)|(?:gon|wan)(?=na\b)|got(?=ta\b)|(?:lem|gim)(?=me\b)|'t(?=(?:is|was)\b)"
    r"|[\p{L}\p{M}\p{N}]+(?=n't\b)|n't\b|'(?:s|re|ve|ll|d|m)\b|y'(?=all\b)"  # is n't, dog 's
    rf"|{APOSTROPHES}"
    rf"|\b(?:{ABBREVIATIONS})\.(?![a-z])|\b(?-i:{CAPITAL})\.|\b(?:{BEFORE_NUMBERS})\.(?=\s*\d)"
    r"|(?:[\p{L}\p{M}]\.)+[\p{L}\p{M}](?='s\b)|(?:[\p{L}\p{M}]\.){2,}"  # u.s.
    r"|\b(?!i\b)[\p{L}\p{M}]\.(?!\w)|ph\.d\.?"  # p.
    r"|\d+:\d+(?=[ap]m\b)"
    r"|[-+]?(?<![\w.])\.?\d+(?:[.,:/]\d+)*(?:(?:-|(?<=\d))[\p{L}\p{M}\p{N}]+)*"  # 5,000  3.50  1990s  4-year-old
    r"|(?-i:[A-Z]+(?:&[A-Z]+)+)"
    r"|[\p{L}\p{M}\p{N}]+(?:\.[\p{L}\p{M}]+)+(?:/[\w./-]*)?"  # example.com
    r"|[\p{L}\p{M}\p{N}]+(?:[-/][\p{L}\p{M}\p{N}]+|_[\p{L}\p{M}\p{N}]+)*"  # t-shirt
    r"|[?!]+|\.+|-+|`+|''|=+|_+|(?![\U0001f000-\U0001faff\p{M}])[^\w\s]",  # no emoji
    regex.IGNORECASE,
)


def chosen(wanted: str) -> str:
    """The tokenizer that ``wanted`` is here: of ``auto``, ``ptb`` where there is Java, else ``simple``.

    Raises:
        UserError: ptb, and there is no Java.
    """
    has_java = shutil.which("java") is not None
    if wanted == "ptb" and not has_java:
        raise UserError(
            "The tokenizer ptb needs Java, and there is no `java` on the path. Install a Java runtime, or use the "
            "tokenizer simple, which differs on one caption in ten thousand."
        )
    return wanted if wanted != "auto" else "ptb" if has_java else "simple"


def tokenizer_named(name: str) -> Tokenize:
    """One of ``pipelines.config.metrics.Tokenizer`` but auto.

    Raises:
        UserError: there is none of that name, or it is not installed.
    """
    if name == "ptb":
        return ptb_tokenize
    words = simple_words if name == "simple" else words_by(name)
    return lambda sentences: {key: [" ".join(words(line)) for line in lines] for key, lines in sentences.items()}


def simple_words(sentence: str) -> list[str]:
    """Lower-case words, clitics apart, hyphenated words and abbreviations whole, and no punctuation."""
    words = WORD.findall(html.unescape(sentence).translate(SPELLINGS))
    return [BRACKETS.get(word, word.lower()) for word in words if word not in REMOVED]


def ptb_tokenize(sentences: Sentences) -> Sentences:
    """All sentences through pycocoevalcap's PTBTokenizer in one Java process, fed by pipe so that it writes no file."""
    flat = [" ".join(line.split()) for lines in sentences.values() for line in lines]
    filled = [line for line in flat if line]
    tokenized = iter(run_ptb(filled)) if filled else iter(())
    words = iter([next(tokenized) if line else "" for line in flat])
    return {name: [next(words) for _ in lines] for name, lines in sentences.items()}


def run_ptb(lines: list[str]) -> list[str]:
    """Stanford's tokenizer on lines of text, none of which is empty.

    Raises:
        UserError: Java ends with an error.
    """
    from pycocoevalcap.tokenizer import ptbtokenizer

    jar = Path(ptbtokenizer.__file__).with_name(ptbtokenizer.STANFORD_CORENLP_3_4_1_JAR)
    command = ["java", "-cp", str(jar), "edu.stanford.nlp.process.PTBTokenizer"]
    command += ["-preserveLines", "-lowerCase", "-encoding", "UTF-8"]
    done = subprocess.run(command, input="\n".join(lines).encode(), capture_output=True)
    tokenized = done.stdout.decode().split("\n")
    if done.returncode or len(tokenized) != len(lines):
        reason = done.stderr.decode(errors="replace").strip()[-300:]
        raise UserError(f"Java's tokenizer failed on {len(lines):,} sentences: {reason}\nUse the tokenizer simple.")
    return [" ".join(word for word in line.split() if word not in ptbtokenizer.PUNCTUATIONS) for line in tokenized]
