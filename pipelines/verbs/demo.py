"""``rnncond demo``: the whole path, from pictures to a page, on a small generated world or on your photographs.

Without ``--data`` the world of ``pipelines.demo.world`` is drawn and a small CNN learns to see it
(``pipelines.demo.cnn``); with it, your photographs and a CNN's weights take their place, and the rest is the same.
Every stage is a verb that can be run alone, and resumes where it was interrupted when the demo is started again.
"""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from feature_store import Store
from pipelines.cluster import connection
from pipelines.console import Outcome, tell
from pipelines.demo import cnn, world
from pipelines.errors import UserError
from pipelines.files.remote_folder import is_remote
from pipelines.inputs.captions import read_captions
from pipelines.tracking.address import as_address
from pipelines.verbs import caption, evaluate, features, report, train

PICTURES = {"train": 2000, "val": 100, "test": 200}


@dataclass(frozen=True)
class Subject:
    """What the demo is about.

    Attributes:
        data: the file of captions, which is the listing of the pictures, too.
        backbone, weights: of the CNN.
        recipe: of the captioner.
        held_out: the split that is captioned in the end.
    """

    data: Path
    backbone: str
    weights: Path
    recipe: str
    held_out: str


def run(
    out: str = "demo",
    data: str | None = None,
    weights: str | None = None,
    backbone: str = "torchvision/squeezenet1_0",
    seed: int = 0,
    address: str | None = None,
) -> Outcome:
    """Make features, train, caption, score, and write a page. The arguments are the command line's."""
    began = time.monotonic()
    if is_remote(out):
        raise UserError(
            f"--out: found {out}, expected a folder of this machine, where the demo draws its pictures and keeps "
            "MLflow's database. Each of the verbs that it goes through takes object storage: `rnncond train --out s3://...`."
        )
    folder = Path(out)
    if (data is None) != (weights is None):
        raise UserError(
            "--data and --weights go together: your photographs' captions, and the CNN that is to see them."
        )
    generated = data is None or weights is None
    if data is None or weights is None:
        subject = make_world(folder, seed)
    else:
        subject = Subject(Path(data), backbone, Path(weights), "show_attend_tell.small", "val")
    store, model, captioned = folder / "store", folder / "run", folder / "captioned"
    pictures = list_pictures(subject, folder)  # what is wrong with them is told before Ray starts

    with connection.connect(address):
        with stage(f"Features: what {subject.backbone} sees in each picture"):
            made = features.run(str(subject.data), str(store), subject.backbone, str(subject.weights))
        with stage("Training: Show, Attend and Tell learns to put features into words"):
            tracking = f"sqlite:///{as_address(str(folder / 'mlflow.db'))}"
            settings = [
                f"data.store={store}",
                f"data.fingerprint={made.summary['set']}",
                f"data.captions={subject.data}",
                f"tracking.uri={tracking}",
            ]
            train.run(subject.recipe, settings, out=str(model))
        with stage(f"Captions: pictures of the split {subject.held_out!r}, which training has not seen"):
            caption.run(str(model), str(captioned), str(pictures), weights=str(subject.weights), attention=True)
        with stage("Scores"):
            scores = evaluate.run(model=str(model), split=subject.held_out, shuffled=True).summary
        with stage("The page"):
            report.run(str(model), data=str(subject.data))

    summary = {name: scores[name] for name in ("images", "CIDEr", "BLEU-4", "CIDEr of shuffled pictures")}
    summary |= {name: value for name, value in scores.items() if name.startswith("also ")}
    if generated:
        summary["captions_with_every_attribute_right"] = f"{exactness(folder / 'world', captioned):.1%}"
    summary |= {"minutes": round((time.monotonic() - began) / 60, 1), "report": str(folder / "run" / "report.html")}
    picture = json.loads(pictures.read_text(encoding="utf-8").partition("\n")[0])["file"]
    hint = (
        f"Open {summary['report']} in a browser. Next:\n"
        f"  {shlex.join(['rnncond', 'caption', picture, '--model', str(model), '--weights', str(subject.weights)])}\n"
        f"  {shlex.join(['mlflow', 'ui', '--backend-store-uri', tracking])}"
    )
    return Outcome(summary, made.failed, made.failures, hint)


@contextmanager
def stage(what: str) -> Iterator[None]:
    """Say what begins, and how long it took."""
    tell(f"\n{what}")
    began = time.monotonic()
    yield
    tell(f"  took {time.monotonic() - began:.0f} s")


def make_world(folder: Path, seed: int) -> Subject:
    """Draw the world and train its CNN, unless the folder has both."""
    drawn, weights = folder / "world", folder / "cnn.safetensors"
    with stage(f"World: {sum(PICTURES.values()):,} pictures of coloured shapes, with captions in English and German"):
        if not is_drawn(drawn, seed):
            weights.unlink(missing_ok=True)
            world.make(drawn, PICTURES, seed)
    with stage("CNN: a small network learns to see shapes, from pictures of its own without captions"):
        if not weights.exists():
            right = cnn.train(weights, seed)
            tell(f"  it tells everything right in {right:.0%} of fresh pictures of 2 to 4 groups")
    return Subject(drawn / "captions.jsonl", cnn.BACKBONE, weights, "demo", "test")


def is_drawn(drawn: Path, seed: int) -> bool:
    try:
        about = json.loads((drawn / "world.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return (about["version"], about["seed"], about["sizes"]) == (world.VERSION, seed, PICTURES)


def list_pictures(subject: Subject, folder: Path) -> Path:
    """A listing of the pictures that are held out, for ``rnncond caption``."""
    folder.mkdir(parents=True, exist_ok=True)
    listing = folder / "held_out.jsonl"
    home = subject.data.absolute().parent
    rows = [
        {"image_id": example.image_id, "file": str(home / example.file)}
        for example in read_captions(subject.data)
        if example.split == subject.held_out
    ]
    if not rows:
        raise UserError(
            f"{subject.data} has no pictures of the split {subject.held_out!r} to caption; expected some that training "
            "does not see. Give more pictures, or say which are held out."
        )
    listing.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return listing


def exactness(drawn: Path, captioned: Path) -> float:
    """Share of the captions that name count, size, colour, shape and place of every group, and nothing else."""
    scenes = json.loads((drawn / "world.json").read_text(encoding="utf-8"))["scenes"]
    rows = Store(captioned).open(kind="captions").snapshot().scan(["image_id", "caption"])
    right = [
        world.attributes(row["caption"]) == tuple(world.Group(*group) for group in scenes[row["image_id"]])
        for batch in rows
        for row in batch.to_pylist()
    ]
    return sum(right) / len(right)
