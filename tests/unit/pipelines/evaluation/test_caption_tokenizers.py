"""Our tokenizer of captions against Stanford's: what it said of each sentence is written down here, and asked again
where there is Java."""

import random
import shutil

import pytest

from pipelines.errors import UserError
from pipelines.evaluation.caption_tokenizers import chosen, ptb_tokenize, simple_words, tokenizer_named

needs_java = pytest.mark.skipif(not shutil.which("java"), reason="Java is not installed")

WORDS = {
    "A man's dog isn't here; it's well-known .": "a man 's dog is n't here it 's well-known",
    '"Stop!" says a 4-year-old (a girl) at 5,000 feet...': "stop says a 4-year-old -lrb- a girl -rrb- at 5,000 feet",
    "Q&amp;A on a t-shirt, $3.50 -- they've we'll I'd": "q&a on a t-shirt $ 3.50 they 've we 'll i 'd",
    "un café": "un café",
    "": "",
    " . ": "",
    "I cannot go and they are gonna run": "i can not go and they are gon na run",
    "gotta gimme lemme wanna 'tis 'twas": "got ta gim me lem me wan na 't is 't was",
    "\u201ccurly\u201d and \u2018single\u2019, it\u2019s": "curly and single it 's",
    "a dog \u2014 running \u2013 fast -- now - ok": "a dog running fast now ok",
    "a\u2013b 1990\u20132000 a--b": "a b 1990 2000 a b",
    "it is 5 o'clock at O'Brien's, eating hors d'oeuvres": "it is 5 o'clock at o'brien 's eating hors d'oeuvres",
    "Mr. Smith and mrs. Jones met Dr. Who.": "mr. smith and mrs. jones met dr. who",
    "A St. Bernard vs. a cat etc.": "a st. bernard vs. a cat etc.",
    "sleeps in the sun. Then on a mat.": "sleeps in the sun then on a mat",
    "the U.S. flag at 5 p.m. by John A. Noble": "the u.s. flag at 5 p.m. by john a. noble",
    "no. 5 , no. Next": "no. 5 no next",
    "what?! no!! wait\u2026 ...": "what ?! no !! wait",
    "an at&t sign, AT&T, H&M": "an at & t sign at&t h&m",
    "rock 'n' roll, the '90s, hook 'em": "rock 'n' roll the '90s hook 'em",
    "y'all c'mon ma'am dogs' toys": "y' all c'mon ma'am dogs toys",
    "a statefarm.com hat, mail me@example.org": "a statefarm.com hat mail me@example.org",
    "(a) [b] {c} 30% \u00bd": "-lrb- a -rrb- -lsb- b -rsb- -lcb- c -rcb- 30 % 1/2",
    "10:30pm 3/4/2010 .5 -5 1st": "10:30 pm 3/4/2010 .5 -5 1st",
    "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35 \U0001f436 dog": "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35 dog",
}


@pytest.mark.parametrize("sentence", WORDS)
def test_simple_words_are_stanfords(sentence):
    assert " ".join(simple_words(sentence)) == WORDS[sentence]


@needs_java
def test_what_is_written_down_is_what_java_says_and_blank_lines_stay_in_place():
    lines = {"x": list(WORDS), "y": ["\n", "two\nlines", "and\u2028three"], "z": [""]}
    assert ptb_tokenize(lines) == tokenizer_named("simple")(lines)
    assert ptb_tokenize(lines)["x"] == list(WORDS.values())
    assert ptb_tokenize({"x": [""]}) == {"x": [""]}


@needs_java
def test_sentences_put_together_at_random():
    chance = random.Random(1)
    words = [
        "a",
        "the",
        "man",
        "woman",
        "Dog",
        "t-shirt",
        "two-year-old",
        "people's",
        "isn't",
        "it's",
        "they're",
        "cannot",
        "Mr.",
        "St.",
        "U.S.",
        "3",
        "1,000",
        "2nd",
        "5-foot",
        "New",
        "York",
        "red/white",
        "black-and-white",
        "well-lit",
        "“STOP”",
        "hello",
        "o'clock",
        "running",
        ".",
        ",",
        ";",
        ":",
        "!",
        "?",
        "-",
        "--",
        "...",
        "&",
        "$",
        "%",
    ]
    lines = {"x": [" ".join(chance.choices(words, k=chance.randint(1, 15))) for _ in range(5000)]}
    ours, theirs = tokenizer_named("simple")(lines)["x"], ptb_tokenize(lines)["x"]
    different = [(line, a, b) for line, a, b in zip(lines["x"], theirs, ours, strict=True) if a != b]
    assert not different, (len(different), different[:9])


def test_without_java(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert chosen("auto") == chosen("simple") == "simple" and chosen("zh") == "zh"
    with pytest.raises(UserError, match="needs Java"):
        chosen("ptb")


def test_sacrebleus_cut_captions_too():
    assert tokenizer_named("zh")({"x": ["\u4e24\u53ea\u9e1f\u3002 DVD"]}) == {"x": ["\u4e24 \u53ea \u9e1f dvd"]}
