"""Writes first words of texts that are no papers: encyclopedias, news, conversations, stories, instructions.

    python make_openings.py > openings.jsonl
    python sample_texts.py --model MODEL.gguf --documents openings.jsonl --rounds 1 --out general.jsonl

The places are those of the time zones that every system knows.
"""

import json
import random
from pathlib import Path

ZONES = Path("/usr/share/zoneinfo")
COUNT = 1680
NAMES = [
    "Anna",
    "Ben",
    "Chen",
    "Dina",
    "Emeka",
    "Farah",
    "Greta",
    "Hiro",
    "Ivan",
    "Julia",
    "Karim",
    "Lena",
    "Marco",
    "Nadia",
    "Omar",
    "Paula",
    "Quentin",
    "Rosa",
    "Samir",
    "Tara",
    "Victor",
    "Wendy",
    "Yusuf",
    "Zoe",
]
WORKS = [
    "painter",
    "physician",
    "football player",
    "composer",
    "engineer",
    "politician",
    "poet",
    "chemist",
    "bishop",
    "actress",
    "general",
    "mathematician",
    "singer",
    "architect",
]
FIELDS = [
    "physics",
    "medicine",
    "economics",
    "music",
    "law",
    "chemistry",
    "biology",
    "geology",
    "computing",
    "linguistics",
    "sport",
    "philosophy",
    "astronomy",
    "cooking",
]
THINGS = [
    "the museum",
    "a good restaurant",
    "the train station",
    "a used car",
    "the new neighbours",
    "a birthday present",
    "the exam",
    "a job interview",
    "a flat to rent",
    "the doctor",
]
KINDS = [
    "{place} is a city in {country}. It was founded in {year} and",
    "The history of {country} in the {century}th century was shaped by",
    "{name} {family} (born {year} in {place}) was a {work} who",
    "The economy of {country} depends on several industries, of which",
    "The {year} elections in {country} were held after",
    "The University of {place} was established in {year} when",
    "The war between {country} and {other_country} began in {year} because",
    "In {field}, one of the oldest questions is",
    "{place} has a climate with summers that are",
    "The {year} season of the {place} football club was",
    "{place}, {country} -- Police said on {day} that",
    "{place}, {country} -- At least {number} people were",
    "The government of {country} announced on {day} that it would",
    "{name} {family}, the {work} from {place}, told reporters on {day} that",
    "Shares of a company from {place} fell by {number} per cent on {day} after",
    "Scientists in {country} say that they have found",
    "{name}: Hello, {other}! Have you thought about {thing} yet? {other}: Yes,",
    "{name}: Excuse me, could you help me? It is about {thing}. {other}: Of course.",
    "{name}: How was your trip to {place}, {other}? {other}: It was",
    "{other}: I am sorry to be late, {name}. {name}: What happened? {other}:",
    "When {name} came to {place} for the first time, it was",
    "Every morning {name} and {other} walked through {place} to",
    "Before you travel to {country}, make sure that",
    "This is how people in {country} prepare their bread. First,",
]


def main():
    chooser = random.Random(0)
    rows = [line.split("\t") for line in open(ZONES / "iso3166.tab") if not line.startswith("#")]
    countries = {code: name.strip() for code, name in rows}
    places = []
    for line in open(ZONES / "zone.tab"):
        if not line.startswith("#"):
            code, _, zone = line.split("\t")[:3]
            places.append((zone.strip().rsplit("/", 1)[1].replace("_", " "), countries[code]))
    for index in range(COUNT):
        place, country = chooser.choice(places)
        name, other = chooser.sample(NAMES, 2)
        text = KINDS[index % len(KINDS)].format(
            place=place,
            country=country,
            other_country=chooser.choice(places)[1],
            name=name,
            other=other,
            family=chooser.choice(places)[0],
            year=chooser.randint(1450, 2020),
            century=chooser.randint(16, 20),
            work=chooser.choice(WORKS),
            field=chooser.choice(FIELDS),
            thing=chooser.choice(THINGS),
            day=chooser.choice(["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]),
            number=chooser.randint(3, 80),
        )
        print(json.dumps({"document": text}, ensure_ascii=False))


main()
