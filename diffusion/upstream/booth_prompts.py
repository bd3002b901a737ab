"""The prompts of DreamBooth's and ID-Booth's trainings and of their pictures: base ones, and complex ones."""

import random
from dataclasses import dataclass

#: What the photos are trained with, and the pictures of others.
INSTANCE, CLASS = "photo of sks person", "photo of a person"
#: What pictures are asked for with.
BASE = "face portrait photo of sks person"
NEGATIVE = "cartoon, cgi, render, illustration, painting, drawing, black and white, bad body proportions, landscape"
BACKGROUNDS = (
    "forest",
    "city street",
    "beach",
    "office",
    "bus",
    "laboratory",
    "factory",
    "construction site",
    "hospital",
    "night club",
)
AGES = ("young", "middle-aged", "old")


@dataclass(frozen=True)
class PromptConfig:
    """What complex prompts vary."""

    token: str = "sks"  #: the word that stands for the person
    gender: str | None = None  #: "male", "female", ...; left out where None
    backgrounds: bool = True  #: ten places and none
    poses: bool = True  #: half of them from the side
    ages: bool = False  #: three phases of life and none
    seed: int = 0


def instance_prompt(token: str = "sks") -> str:
    """What photos of the person are trained with."""
    return INSTANCE.replace("sks", token)


def base_prompt(token: str = "sks", gender: str | None = None) -> str:
    """The plain portrait."""
    return BASE.replace("sks", f"{gender} {token}" if gender else token)


def complex_prompts(count: int, config: PromptConfig | None = None) -> list[str]:
    """Portraits in various places, from the front and the side, at various ages: each choice as often as the others.

    The first one is the base prompt (where poses do not turn it to the side).
    """
    config = config or PromptConfig()
    chance = random.Random(config.seed)
    places = ["", *BACKGROUNDS] if config.backgrounds else [""]
    phases = ["", *AGES] if config.ages else [""]
    choices = [(phase, place) for phase in phases for place in places]
    out: list[str] = []
    while len(out) < count:
        first, *others = choices
        chance.shuffle(others)
        for phase, place in [first, *others]:
            who = " ".join(word for word in (phase, config.gender, config.token, "person") if word)
            kind = "side-portrait" if config.poses and out and chance.random() < 0.5 else "portrait"
            out.append(f"face {kind} photo of {who}" + (f", {place} background" if place else ""))
    return out[:count]
